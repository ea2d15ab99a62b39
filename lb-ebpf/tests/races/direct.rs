//! Direct flows, to a backend itself, that begin on two CPUs at the same moment, or while a flow through the
//! Service does: no two flows get one reply tuple.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Disposition;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{BACKEND_PORT, Pod, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::walk::{Scratch, walk};

use super::flow::{DEVICE, Flow};
use super::world::Shared;
use super::{SWITCHES, TRIES, explore, tries};

/// Sends one packet, which must not be dropped; returns its ends as it leaves.
fn send(
    shared: &Shared,
    program: Program,
    protocol: Protocol,
    kind: Kind,
    (from, to): (SocketAddr, SocketAddr),
) -> (SocketAddr, SocketAddr) {
    let mut frame = frame::frame(from, to, protocol, kind, PAYLOAD);
    let outcome = walk(&mut frame, shared, program.hook(), &mut Scratch::new()).outcome;
    let passes = matches!(outcome.disposition(), Disposition::Passed | Disposition::Translated);
    assert!(passes, "{outcome:?}");
    frame::ends(&frame).expect("a frame with both ends")
}

impl Flow {
    /// Sends a packet to the backend itself; returns where it seems to come from there.
    fn direct_request(self, shared: &Shared, kind: Kind) -> SocketAddr {
        let program = if self.from_outside { Program::FromNetwork } else { Program::FromPod };
        let ends = (self.client(), self.backend());
        let (from, to) = send(shared, program, self.protocol, kind, ends);
        assert_eq!(to, self.backend(), "the request goes to another backend");
        from
    }

    /// Sends the backend's reply to `source`, which must reach the client as from the backend.
    fn direct_reply(self, shared: &Shared, source: SocketAddr, kind: Kind) {
        let ends = (self.backend(), source);
        let ends = send(shared, Program::ToDevice, self.protocol, kind, ends);
        assert_eq!(ends, (self.backend(), self.client()), "translated as another flow's");
    }
}

/// A client's source is kept: the reply tuples of both flows are the same.
fn keeps_source(flow: Flow) -> bool {
    !flow.is_remote()
}

/// Runs `first` and `second` on two CPUs at once.
fn at_once<T: Send + 'static>(
    shared: &Arc<Shared>,
    first: impl FnOnce(&Shared) -> T + Send + 'static,
    second: impl FnOnce(&Shared) -> T + Send + 'static,
) -> [T; 2] {
    let (one, other) = (Arc::clone(shared), Arc::clone(shared));
    let cpus = [
        shuttle::thread::spawn(move || first(&one)),
        shuttle::thread::spawn(move || second(&other)),
    ];
    cpus.map(|cpu| cpu.join().expect("no walk panics"))
}

#[test]
fn a_direct_flow_and_one_through_the_service_get_two_sources() {
    explore(keeps_source, |flow| {
        let shared = Arc::new(flow.shared());
        let [through, direct] = at_once(
            &shared,
            move |shared| flow.request(shared, Kind::Open),
            move |shared| flow.direct_request(shared, Kind::Open),
        );
        assert_ne!(through, direct, "one source of two flows");
        flow.reply(&shared, through, Kind::Accept);
        flow.direct_reply(&shared, direct, Kind::Accept);
        assert_eq!(flow.request(&shared, Kind::Data), through);
        assert_eq!(flow.direct_request(&shared, Kind::Data), direct);
    });
}

#[test]
fn two_first_packets_begin_one_direct_flow() {
    for has_flow_through_the_service in [false, true] {
        let race = move |flow: Flow| {
            let shared = Arc::new(flow.shared());
            if has_flow_through_the_service {
                flow.request(&shared, Kind::Open);
            }
            let opens = move |shared: &Shared| flow.direct_request(shared, Kind::Open);
            let [first, second] = at_once(&shared, opens, opens);
            // As in `Flow::agreed`.
            assert!(first == second || flow.in_words, "two sources of one flow");
            for source in [first, second] {
                assert!(source != flow.client() || !has_flow_through_the_service);
                flow.direct_reply(&shared, source, Kind::Accept);
            }
            assert!([first, second].contains(&flow.direct_request(&shared, Kind::Data)));
        };
        for flow in Flow::all().into_iter().filter(|flow| keeps_source(*flow)) {
            shuttle::check_random(move || race(flow), tries(flow));
            shuttle::check_pct(move || race(flow), tries(flow), SWITCHES);
        }
    }
}

/// Peers of a cluster that send to each other from the port that they receive at.
#[test]
fn two_backends_that_begin_a_direct_flow_with_each_other_reach_each_other() {
    for family in Family::ALL {
        let race = move || {
            let topology = Topology { family };
            let shared = Arc::new(Shared::new(lb_ebpf::cases::topology::world(DEVICE), false));
            let [local, remote] =
                [Pod::Local, Pod::Remote].map(|pod| topology.pod(pod, BACKEND_PORT));
            let out = move |shared: &Shared, program| {
                let ends = (local, remote);
                assert_eq!(send(shared, program, Protocol::UDP, Kind::Data, ends), ends);
            };
            let back = move |shared: &Shared, program| {
                let ends = (remote, local);
                assert_eq!(send(shared, program, Protocol::UDP, Kind::Data, ends), ends);
            };
            at_once(
                &shared,
                move |shared| out(shared, Program::FromPod),
                move |shared| back(shared, Program::FromNetwork),
            );
            for _ in 0..2 {
                out(&shared, Program::ToDevice);
                back(&shared, Program::ToDevice);
                out(&shared, Program::FromPod);
                back(&shared, Program::FromNetwork);
            }
        };
        shuttle::check_random(race, TRIES);
        shuttle::check_pct(race, TRIES, SWITCHES);
    }
}
