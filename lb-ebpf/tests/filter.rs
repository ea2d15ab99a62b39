//! What the filter saves: a packet that can be of no flow is looked up in no table.

use std::cell::Cell;
use std::net::SocketAddr;

use lb_common::address::{Address, Family, Protocol};
use lb_common::outcome::Outcome;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::trace::{Step, Traced, Tracer};
use lb_ebpf::walk::{Scratch, walk};

/// Interface index of the network device.
const DEVICE: u32 = 7;
const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];

/// Counts look-ups in hash tables.
#[derive(Default)]
struct LookUps(Cell<u32>);

impl<A: Address> Tracer<A> for LookUps {
    fn step(&self, step: Step<'_, A>) {
        if matches!(step, Step::Lookup(..) | Step::Frontend(..) | Step::IpPolicy(..)) {
            self.0.set(self.0.get() + 1);
        }
    }
}

/// Walks `frame`, and returns how many look-ups that took.
fn look_ups(world: &World<Rows>, program: Program, frame: &mut Vec<u8>) -> (Outcome, u32) {
    let tracer = LookUps::default();
    let traced = Traced { world, tracer: &tracer };
    let result = walk(frame, &traced, program.hook(), &mut Scratch::new());
    (result.outcome, tracer.0.get())
}

struct Node {
    world: World<Rows>,
    topology: Topology,
    protocol: Protocol,
}

impl Node {
    /// One for each family and protocol.
    fn all() -> impl Iterator<Item = Self> {
        let of = |family| {
            move |protocol| {
                let world = topology::world(DEVICE);
                Self { world, topology: Topology { family }, protocol }
            }
        };
        Family::ALL.into_iter().flat_map(move |family| PROTOCOLS.into_iter().map(of(family)))
    }

    /// Walks a packet; returns the look-ups that it took, and its bytes afterwards.
    fn walk(
        &self,
        program: Program,
        (from, to): (SocketAddr, SocketAddr),
        kind: Kind,
    ) -> (Outcome, u32, Vec<u8>) {
        let mut frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        let (outcome, count) = look_ups(&self.world, program, &mut frame);
        (outcome, count, frame)
    }

    fn backend(&self, pod: Pod) -> SocketAddr {
        self.topology.pod(pod, BACKEND_PORT)
    }
}

#[test]
fn a_packet_of_no_service_is_not_looked_up() {
    for node in Node::all() {
        let ends = (node.topology.client(40_000), node.topology.client_pod(50_000));
        for program in Program::ALL {
            for kind in [Kind::Open, Kind::Data] {
                let (outcome, count, _) = node.walk(program, ends, kind);
                assert_eq!((outcome, count), (Outcome::PassedNotAService, 0), "{program:?}");
            }
        }
    }
}

#[test]
fn what_was_translated_on_its_way_in_is_not_looked_up_on_its_way_out() {
    for node in Node::all() {
        let ends = (node.topology.client_pod(40_000), node.topology.frontend(Target::Local));
        let (outcome, count, mut frame) = node.walk(Program::FromPod, ends, Kind::Open);
        assert_eq!(outcome, Outcome::Forwarded);
        assert!(count > 0);
        let left = look_ups(&node.world, Program::ToDevice, &mut frame);
        assert_eq!(left, (Outcome::PassedNotAService, 0));
    }
}

#[test]
fn what_goes_to_a_backend_itself_is_looked_up_on_its_way_in_alone() {
    for node in Node::all() {
        let ends = (node.topology.client(40_000), node.backend(Pod::Local));
        let (outcome, count, mut frame) = node.walk(Program::FromNetwork, ends, Kind::Open);
        assert_eq!(outcome, Outcome::PassedDirect);
        assert!(count > 0);
        let left = look_ups(&node.world, Program::ToDevice, &mut frame);
        assert_eq!(left, (Outcome::PassedNotAService, 0));
    }
}

#[test]
fn a_reply_that_snat_brought_back_is_not_looked_up_on_its_way_out() {
    for node in Node::all().filter(|node| node.protocol != Protocol::UDP) {
        let (client, frontend) =
            (node.topology.client(40_000), node.topology.frontend(Target::Remote));
        let (outcome, ..) = node.walk(Program::FromNetwork, (client, frontend), Kind::Open);
        assert_eq!(outcome, Outcome::ForwardedSnat);
        let port = node.topology.snat_port(client, frontend, node.protocol, 0);
        let ends = (node.backend(Pod::Remote), node.topology.node(port));
        let (outcome, _, mut frame) = node.walk(Program::FromNetwork, ends, Kind::Accept);
        assert_eq!(outcome, Outcome::RepliedSnat);
        let left = look_ups(&node.world, Program::ToDevice, &mut frame);
        assert_eq!(left, (Outcome::PassedNotAService, 0));
    }
}
