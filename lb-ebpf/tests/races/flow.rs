//! Flows of every kind, and what their ends send.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol, Tuple, V4, V6};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::outcome::Disposition;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::in_memory::InMemory;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;

use crate::world::{Shared, entries};

/// Interface index of the network device.
pub const DEVICE: u32 = 7;
/// The client's port.
const PORT: u16 = 40_000;
/// A flow of one family and protocol through one Service.
#[derive(Clone, Copy)]
pub struct Flow {
    pub topology: Topology,
    pub protocol: Protocol,
    pub target: Target,
    /// Whether its client is outside of the cluster; else it is a pod of this node.
    pub from_outside: bool,
    /// Whether its entries are in the kernel's tables, of which each access is a step.
    pub in_words: bool,
}

/// One packet of a flow.
#[derive(Clone, Copy)]
pub enum Sent {
    /// By the client to the frontend.
    Request(Kind),
    /// By the backend, to where the last request seemed to come from.
    Reply(Kind),
}

impl Flow {
    /// Every path that a flow can take: kept source, SNAT; both families; TCP and UDP; each with operations on the
    /// conntrack tables as one step, and as the kernel does them.
    pub fn all() -> Vec<Self> {
        let mut flows = Vec::new();
        for family in Family::ALL {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                for (target, from_outside) in
                    [(Target::Local, false), (Target::Local, true), (Target::Remote, true)]
                {
                    let topology = Topology { family };
                    let flow = Self { topology, protocol, target, from_outside, in_words: false };
                    flows.extend([flow, Self { in_words: true, ..flow }]);
                }
            }
        }
        flows
    }

    pub fn client(self) -> SocketAddr {
        if self.from_outside { self.topology.client(PORT) } else { self.topology.client_pod(PORT) }
    }

    pub fn is_remote(self) -> bool {
        matches!(self.target, Target::Remote | Target::RemoteToo)
    }

    pub fn backend(self) -> SocketAddr {
        let pod = if self.is_remote() { Pod::Remote } else { Pod::Local };
        self.topology.pod(pod, BACKEND_PORT)
    }

    pub fn shared(self) -> Shared {
        let world = topology::world(DEVICE);
        Shared::new(world, self.in_words)
    }

    /// Sends a request; returns where it seems to come from at the backend.
    pub fn request(self, shared: &Shared, kind: Kind) -> SocketAddr {
        let program = if self.from_outside { Program::FromNetwork } else { Program::FromPod };
        let frontend = self.topology.frontend(self.target);
        let (from, to) = self.send(shared, program, self.client(), frontend, kind);
        assert_eq!(to, self.backend(), "the request goes to another backend");
        from
    }

    /// Sends a reply to `source`, where a request came from, which must reach the client as from the
    /// frontend.
    pub fn reply(self, shared: &Shared, source: SocketAddr, kind: Kind) {
        let program = if self.is_remote() { Program::FromNetwork } else { Program::ToDevice };
        let ends = self.send(shared, program, self.backend(), source, kind);
        assert_eq!(ends, (self.topology.frontend(self.target), self.client()), "untranslated");
    }

    /// Sends one packet; returns its ends as translated.
    pub fn send(
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
    pub fn both_entries<A: InMemory>(self, shared: &Shared) -> [ConntrackEntry<A>; 2] {
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

    /// Sends replies to where two first packets seem to have come from; returns where the flow's next ones will. Where
    /// a CPU waits in vain for an entry that the other one is writing, its packet has a source of its own.
    #[track_caller]
    pub fn agreed(self, shared: &Shared, sources: &[SocketAddr]) -> SocketAddr {
        assert!(sources[0] == sources[1] || self.in_words, "two sources of one flow");
        for source in sources {
            self.reply(shared, *source, Kind::Accept);
        }
        let source = self.request(shared, Kind::Open);
        assert!(sources.contains(&source), "a third source of one flow");
        source
    }

    pub fn states(self, shared: &Shared) -> [State; 2] {
        match self.topology.family {
            Family::V4 => self.both_entries::<V4>(shared).map(|entry| entry.state),
            Family::V6 => self.both_entries::<V6>(shared).map(|entry| entry.state),
        }
    }
}
