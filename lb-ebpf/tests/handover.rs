//! While another release takes over, flows that are known go on and all others are left to its programs.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::hook::Verdict;
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::walk::{Scratch, walk};

/// Walks a packet at `program`, which must not drop it; returns the outcome, and whether it is unchanged.
fn send(
    world: &World<Rows>,
    program: Program,
    kind: Kind,
    protocol: Protocol,
    (from, to): (SocketAddr, SocketAddr),
) -> (Outcome, bool) {
    let sent = frame::frame(from, to, protocol, kind, PAYLOAD);
    let mut frame = sent.clone();
    let result = walk(&mut frame, world, program.hook(), &mut Scratch::new());
    assert_eq!(result.verdict, Verdict::Pass);
    (result.outcome, frame == sent)
}

#[test]
fn known_flows_go_on_and_others_are_left_to_the_next_release() {
    for (family, protocol) in Family::ALL.into_iter().zip([Protocol::TCP, Protocol::UDP]) {
        let (world, topology) = (topology::world(7), Topology { family });
        let (frontend, backend) =
            (topology.frontend(Target::Local), topology.pod(Pod::Local, BACKEND_PORT));
        let [early, late] = [40_000, 40_001].map(|port| topology.client_pod(port));
        let pod = |kind, ends| send(&world, Program::FromPod, kind, protocol, ends);
        let device = |kind, ends| send(&world, Program::ToDevice, kind, protocol, ends);
        assert_eq!(pod(Kind::Open, (early, frontend)).0, Outcome::Forwarded);

        world.hands_over.set(true);
        assert_eq!(pod(Kind::Data, (early, frontend)), (Outcome::Forwarded, false));
        assert_eq!(device(Kind::Data, (backend, early)), (Outcome::Replied, false));
        let left = (Outcome::PassedHandedOver, true);
        // A flow that would begin, directly too, and a reply to one that the next release has begun.
        assert_eq!(pod(Kind::Open, (late, frontend)), left);
        assert_eq!(pod(Kind::Open, (late, backend)), left);
        assert_eq!(device(Kind::Data, (backend, late)), left);
        let nobody = topology.client_pod(5);
        assert_eq!(device(Kind::Data, (late, nobody)), (Outcome::PassedNotAService, true));

        world.hands_over.set(false);
        assert_eq!(pod(Kind::Open, (late, frontend)).0, Outcome::Forwarded);
    }
}

/// Its tuple may be another flow's by now, of which the next release alone knows.
#[test]
fn packets_of_a_flow_that_is_over_are_left_to_the_next_release() {
    for family in Family::ALL {
        let (world, topology) = (topology::world(7), Topology { family });
        let frontend = topology.frontend(Target::Local);
        let (backend, client) =
            (topology.pod(Pod::Local, BACKEND_PORT), topology.client_pod(40_000));
        let pod = |kind| send(&world, Program::FromPod, kind, Protocol::TCP, (client, frontend)).0;
        let device =
            |kind| send(&world, Program::ToDevice, kind, Protocol::TCP, (backend, client)).0;
        for (kind, reply) in
            [(Kind::Open, Kind::Accept), (Kind::Data, Kind::Data), (Kind::Close, Kind::Close)]
        {
            assert_eq!((pod(kind), device(reply)), (Outcome::Forwarded, Outcome::Replied));
        }
        assert_eq!(device(Kind::Data), Outcome::Replied);
        world.hands_over.set(true);
        let left = Outcome::PassedHandedOver;
        assert_eq!((pod(Kind::Data), device(Kind::Accept)), (left, left));
    }
}
