//! Packets of one flow on two CPUs at the same moment: whatever the interleaving, both CPUs agree on the
//! flow. Shuttle runs two walks as threads and chooses, at each look-up and each write, which of them goes
//! on; the walks are those of the kernel programs.

mod direct;
mod flow;
mod table;
mod words;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use lb_common::address::Protocol;
use lb_common::conntrack::State;
use lb_ebpf::cases::frame::Kind;
use lb_ebpf::cases::topology::Target;

use self::flow::{Flow, Sent};
use self::world::Shared;

/// Interleavings tried of each race: at random, and with few changes of CPU at random places.
const TRIES: usize = 1_000;
/// Changes of CPU in one interleaving of the second kind.
const SWITCHES: usize = 3;

/// Interleavings tried of this flow's races: in words a walk has twenty times as many steps.
const fn tries(flow: Flow) -> usize {
    if flow.in_words { TRIES / 8 } else { TRIES }
}

/// Runs `race` for every flow under many interleavings.
fn explore(wants: impl Fn(Flow) -> bool, race: fn(Flow)) {
    for flow in Flow::all().into_iter().filter(|flow| wants(*flow)) {
        shuttle::check_random(move || race(flow), tries(flow));
        shuttle::check_pct(move || race(flow), tries(flow), SWITCHES);
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
        let source = flow.agreed(&shared, &sources);
        assert_eq!(flow.request(&shared, Kind::Data), source);
        flow.reply(&shared, source, Kind::Data);
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
        let source = flow.agreed(&shared, &sources);
        assert_eq!(flow.request(&shared, Kind::Data), source);
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
