//! A connection that finds the table of established flows full lives as long as those that are in it.

use std::net::SocketAddr;

use lb_common::address::{Address, Family, Protocol, V4, V6};
use lb_common::conntrack::State;
use lb_common::outcome::Outcome;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::in_memory::{InMemory, Rows, World};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;

fn run(
    world: &World<Rows>,
    program: Program,
    (from, to): (SocketAddr, SocketAddr),
    (protocol, kind): (Protocol, Kind),
) -> Outcome {
    let mut packet = frame::frame(from, to, protocol, kind, &[]);
    walk(&mut packet, world, program.hook(), &mut Scratch::new()).outcome
}

fn both_entries_are_established<A: Address + InMemory>(world: &World<Rows>, protocol: Protocol) {
    assert!(A::of(world).entries(Table::Established).is_empty());
    let entries = A::of(world).entries(Table::HalfOpen);
    assert_eq!(entries.len(), 2);
    let established = State::ESTABLISHED.timeout_seconds(protocol);
    for (tuple, entry) in entries {
        assert_eq!(entry.state.timeout_seconds(protocol), established, "{tuple:?}");
    }
}

#[test]
fn a_flow_that_cannot_be_established_is_not_idle_sooner() {
    for family in Family::ALL {
        for protocol in [Protocol::TCP, Protocol::SCTP] {
            let world = topology::world(7);
            world.v4.capacity.set(1);
            world.v6.capacity.set(1);
            let topology = Topology { family };
            let (client, frontend) =
                (topology.client_pod(40_000), topology.frontend(Target::Local));
            let backend = topology.pod(Pod::Local, BACKEND_PORT);
            let run = |program, ends, kind| run(&world, program, ends, (protocol, kind));
            assert_eq!(run(Program::FromPod, (client, frontend), Kind::Open), Outcome::Forwarded);
            assert_eq!(run(Program::ToDevice, (backend, client), Kind::Accept), Outcome::Replied);
            for _ in 0..2 {
                let outcome = run(Program::FromPod, (client, frontend), Kind::Data);
                assert_eq!(outcome, Outcome::ForwardedConntrackFull);
            }
            match family {
                Family::V4 => both_entries_are_established::<V4>(&world, protocol),
                Family::V6 => both_entries_are_established::<V6>(&world, protocol),
            }
        }
    }
}
