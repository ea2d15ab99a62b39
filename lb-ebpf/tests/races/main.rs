//! Packets of one flow on two CPUs at the same moment: whatever the interleaving, both CPUs agree on the
//! flow. Shuttle runs two walks as threads and chooses, at each look-up and each write, which of them goes
//! on; the walks are those of the kernel programs.

mod direct;
mod table;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use lb_common::address::{Family, Protocol, Tuple, V4, V6};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::outcome::Disposition;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::in_memory::InMemory;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;

use self::world::{Shared, entries};

/// Interface index of the network device.
const DEVICE: u32 = 7;
/// The client's port.
const PORT: u16 = 40_000;
/// Interleavings tried of each race: at random, and with few changes of CPU at random places.
const TRIES: usize = 1_000;
/// Changes of CPU in one interleaving of the second kind.
const SWITCHES: usize = 3;

/// A flow of one family and protocol through one Service.
#[derive(Clone, Copy)]
struct Flow {
    topology: Topology,
    protocol: Protocol,
    target: Target,
    /// Whether its client is outside of the cluster; else it is a pod of this node.
    from_outside: bool,
}

/// One packet of a flow.
#[derive(Clone, Copy)]
enum Sent {
    /// By the client to the frontend.
    Request(Kind),
    /// By the backend, to where the last request seemed to come from.
    Reply(Kind),
}

impl Flow {
    /// Every path that a flow can take: kept source, SNAT; both families; TCP and UDP.
    fn all() -> Vec<Self> {
        let mut flows = Vec::new();
        for family in Family::ALL {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                for (target, from_outside) in
                    [(Target::Local, false), (Target::Local, true), (Target::Remote, true)]
                {
                    let topology = Topology { family };
                    flows.push(Self { topology, protocol, target, from_outside });
                }
            }
        }
        flows
    }

    fn client(self) -> SocketAddr {
        if self.from_outside { self.topology.client(PORT) } else { self.topology.client_pod(PORT) }
    }

    fn is_remote(self) -> bool {
        matches!(self.target, Target::Remote | Target::RemoteToo)
    }

    fn backend(self) -> SocketAddr {
        let pod = if self.is_remote() { Pod::Remote } else { Pod::Local };
        self.topology.pod(pod, BACKEND_PORT)
    }

    fn shared(self) -> Shared {
        let world = topology::world(DEVICE);
        Shared::new(world)
    }

    /// Sends a request; returns where it seems to come from at the backend.
    fn request(self, shared: &Shared, kind: Kind) -> SocketAddr {
        let program = if self.from_outside { Program::FromNetwork } else { Program::FromPod };
        let frontend = self.topology.frontend(self.target);
        let (from, to) = self.send(shared, program, self.client(), frontend, kind);
        assert_eq!(to, self.backend(), "the request goes to another backend");
        from
    }

    /// Sends a reply to `source`, where a request came from, which must reach the client as from the
    /// frontend.
    fn reply(self, shared: &Shared, source: SocketAddr, kind: Kind) {
        let program = if self.is_remote() { Program::FromNetwork } else { Program::ToDevice };
        let ends = self.send(shared, program, self.backend(), source, kind);
        assert_eq!(ends, (self.topology.frontend(self.target), self.client()), "untranslated");
    }

    /// Sends one packet; returns its ends as translated.
    fn send(
        self,
        shared: &Shared,
        program: Program,
        from: SocketAddr,
        to: SocketAddr,
        kind: Kind,
    ) -> (SocketAddr, SocketAddr) {
        let mut frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        let outcome = walk(&mut frame, shared, program.hook(), &mut Scratch::new()).outcome;
        assert_eq!(outcome.disposition(), Disposition::Translated, "{outcome:?}");
        frame::ends(&frame).expect("a frame with both ends")
    }

    /// Both of the flow's entries, from the one table that holds it.
    fn both_entries<A: InMemory>(self, shared: &Shared) -> [ConntrackEntry<A>; 2] {
        let frontend = self.topology.frontend(self.target);
        let original: Tuple<A> = topology::tuple(self.client(), frontend, self.protocol);
        for table in [Table::Established, Table::HalfOpen] {
            let all = entries::<A>(shared, table);
            let find = |tuple| all.iter().find(|(key, _)| *key == tuple).map(|(_, entry)| *entry);
            if let Some(entry) = find(original) {
                let reply = find(entry.other_key()).expect("the reply entry is in the same table");
                assert_eq!(reply.rewritten, original.reversed(), "the two entries belong together");
                return [entry, reply];
            }
        }
        panic!("the flow has no entry");
    }

    fn states(self, shared: &Shared) -> [State; 2] {
        match self.topology.family {
            Family::V4 => self.both_entries::<V4>(shared).map(|entry| entry.state),
            Family::V6 => self.both_entries::<V6>(shared).map(|entry| entry.state),
        }
    }
}

/// Runs `race` for every flow under many interleavings.
fn explore(wants: impl Fn(Flow) -> bool, race: fn(Flow)) {
    for flow in Flow::all().into_iter().filter(|flow| wants(*flow)) {
        shuttle::check_random(move || race(flow), TRIES);
        shuttle::check_pct(move || race(flow), TRIES, SWITCHES);
    }
}

/// Sends two packets on two CPUs at once, `source` being where replies go; returns where the requests
/// among them seem to come from.
fn at_once(
    flow: Flow,
    shared: &Arc<Shared>,
    source: Option<SocketAddr>,
    packets: [Sent; 2],
) -> Vec<SocketAddr> {
    let cpus = packets.map(|packet| {
        let shared = Arc::clone(shared);
        shuttle::thread::spawn(move || match (packet, source) {
            (Sent::Request(kind), _) => Some(flow.request(&shared, kind)),
            (Sent::Reply(kind), Some(source)) => {
                flow.reply(&shared, source, kind);
                None
            }
            (Sent::Reply(_), None) => panic!("a reply needs a request before it"),
        })
    });
    cpus.into_iter().filter_map(|cpu| cpu.join().expect("no walk panics")).collect()
}

/// Any flow.
const fn any(_: Flow) -> bool {
    true
}

/// TCP alone: the others have no packets that open or close.
fn is_tcp(flow: Flow) -> bool {
    flow.protocol == Protocol::TCP
}

#[test]
fn two_first_packets_begin_one_flow() {
    explore(any, |flow| {
        let shared = Arc::new(flow.shared());
        let first = [Sent::Request(Kind::Open), Sent::Request(Kind::Open)];
        let sources = at_once(flow, &shared, None, first);
        assert_eq!(sources[0], sources[1], "two sources of one flow");
        flow.reply(&shared, sources[0], Kind::Accept);
        assert_eq!(flow.request(&shared, Kind::Data), sources[0]);
        flow.reply(&shared, sources[0], Kind::Data);
        flow.states(&shared);
    });
}

#[test]
fn a_reply_overtakes_a_second_first_packet() {
    explore(any, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        let packets = [Sent::Request(Kind::Open), Sent::Reply(Kind::Accept)];
        let sources = at_once(flow, &shared, Some(source), packets);
        assert_eq!(sources, [source]);
        assert!(flow.states(&shared).iter().all(|state| state.has(State::REPLIED)));
    });
}

#[test]
fn two_packets_establish_one_flow() {
    explore(any, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        flow.reply(&shared, source, Kind::Accept);
        let packets = [Sent::Request(Kind::Data), Sent::Request(Kind::Data)];
        let sources = at_once(flow, &shared, Some(source), packets);
        assert_eq!(sources, [source, source]);
        flow.reply(&shared, source, Kind::Data);
        flow.states(&shared);
    });
}

#[test]
fn a_reply_passes_while_the_flow_is_established() {
    explore(any, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        flow.reply(&shared, source, Kind::Accept);
        let packets = [Sent::Request(Kind::Data), Sent::Reply(Kind::Data)];
        assert_eq!(at_once(flow, &shared, Some(source), packets), [source]);
        assert_eq!(flow.request(&shared, Kind::Data), source);
        flow.reply(&shared, source, Kind::Data);
    });
}

#[test]
fn a_fin_is_kept_while_the_flow_is_established() {
    explore(is_tcp, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        flow.reply(&shared, source, Kind::Accept);
        let packets = [Sent::Request(Kind::Data), Sent::Reply(Kind::Close)];
        assert_eq!(at_once(flow, &shared, Some(source), packets), [source]);
        let states = flow.states(&shared);
        assert!(states.iter().all(|state| state.has(State::FIN_BACKEND)), "{states:?}");
    });
}

#[test]
fn both_of_two_simultaneous_fins_are_kept() {
    explore(is_tcp, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        flow.reply(&shared, source, Kind::Accept);
        flow.request(&shared, Kind::Data);
        let packets = [Sent::Request(Kind::Close), Sent::Reply(Kind::Close)];
        assert_eq!(at_once(flow, &shared, Some(source), packets), [source]);
        assert!(flow.states(&shared).iter().all(|state| state.is_over()));
    });
}

#[test]
fn two_packets_reopen_one_flow() {
    explore(is_tcp, |flow| {
        let shared = Arc::new(flow.shared());
        let source = flow.request(&shared, Kind::Open);
        flow.reply(&shared, source, Kind::Accept);
        flow.request(&shared, Kind::Data);
        flow.request(&shared, Kind::Close);
        flow.reply(&shared, source, Kind::Close);
        let packets = [Sent::Request(Kind::Open), Sent::Request(Kind::Open)];
        let sources = at_once(flow, &shared, Some(source), packets);
        assert_eq!(sources[0], sources[1], "two sources of one flow");
        flow.reply(&shared, sources[0], Kind::Accept);
        assert_eq!(flow.request(&shared, Kind::Data), sources[0]);
    });
}

#[test]
fn two_services_of_one_backend_get_two_sources() {
    explore(any, |flow| {
        let target = if flow.is_remote() { Target::RemoteToo } else { Target::LocalToo };
        let other = Flow { target, ..flow };
        let shared = Arc::new(flow.shared());
        let cpus = [flow, other].map(|flow| {
            let shared = Arc::clone(&shared);
            shuttle::thread::spawn(move || flow.request(&shared, Kind::Open))
        });
        let sources = cpus.map(|cpu| cpu.join().expect("no walk panics"));
        assert_ne!(sources[0], sources[1], "one source of two flows");
        flow.reply(&shared, sources[0], Kind::Accept);
        other.reply(&shared, sources[1], Kind::Accept);
    });
}
