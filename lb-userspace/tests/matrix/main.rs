//! The matrix of source classes: a pod, a client outside and the node itself, to a cluster IP, a node
//! port, a load balancer's address and an external IP, under both traffic policies, with endpoints
//! that are local, remote, both, terminating, and none; in both families and all protocols. Pods and
//! clients outside send packets; the node's own processes connect, and their sockets get a backend,
//! except for SCTP, which no program handles there.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod cells;
mod expected;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_common::address::{Address, Family, Port, Protocol, V4, V6, endpoint};
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{EmptyPoolReason, Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::SocketRevNat;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::{Program, topology};
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::socket_lb::{self, Call, CallKind};
use lb_ebpf::walk::{Scratch, walk};
use lb_userspace::maps::Contents;

use cells::{Cell, FLOWS, cells, contents, rows};

const DEVICE: u32 = 1;

#[test]
fn every_source_class_gets_the_endpoints_that_the_policy_of_the_frontend_allows() {
    let world = World { tables: rows(&contents(DEVICE)), ..topology::world(DEVICE) };
    for (number, cell) in walked() {
        let flows = (0..FLOWS).map(|flow| send(&world, &cell, cell.source(number, flow)));
        let ended: BTreeSet<Result<SocketAddr, Outcome>> = flows.collect();
        assert_eq!(ended, all_of(cell.ends()), "{cell:?}");
    }
}

/// All results that flows may have: one of several pods, or one outcome.
fn all_of(ends: Result<BTreeSet<SocketAddr>, Outcome>) -> BTreeSet<Result<SocketAddr, Outcome>> {
    match ends {
        Ok(ends) => ends.into_iter().map(Ok).collect(),
        Err(outcome) => BTreeSet::from([Err(outcome)]),
    }
}

/// The cells whose packets are received by a device, numbered.
fn walked() -> impl Iterator<Item = (u16, Cell)> {
    (0..).zip(cells().into_iter().filter(|cell| cell.class != SourceClass::Host))
}

/// Opens a flow; returns its destination, after a check of its source.
fn send(world: &World<Rows>, cell: &Cell, source: SocketAddr) -> Result<SocketAddr, Outcome> {
    let program =
        if cell.class == SourceClass::Pod { Program::FromPod } else { Program::FromNetwork };
    let mut bytes = frame::frame(source, cell.destination(), cell.protocol, Kind::Open, b"hello");
    let walked = walk(&mut bytes, world, program.hook(), &mut Scratch::new());
    if walked.outcome.disposition() != Disposition::Translated {
        return Err(walked.outcome);
    }
    let (from, to) = frame::ends(&bytes).unwrap();
    let (outcome, translated) = cell.forwarded(to);
    assert_eq!(walked.outcome, outcome, "{cell:?}");
    assert_eq!(from.ip(), translated.unwrap_or(source.ip()), "{cell:?}");
    Ok(to)
}

#[test]
fn sockets_of_the_nodes_own_processes_get_the_endpoints_that_the_policy_allows() {
    let world = World { tables: rows(&contents(DEVICE)), ..topology::world(DEVICE) };
    for cell in of_processes().filter(|cell| cell.protocol != Protocol::SCTP) {
        for kind in [CallKind::Connect, CallKind::Sendmsg] {
            let calls = (0..CALLS).map(|entropy| match cell.family {
                Family::V4 => call::<V4>(&world, &cell, kind, entropy),
                Family::V6 => call::<V6>(&world, &cell, kind, entropy),
            });
            let ended: BTreeSet<Result<SocketAddr, Outcome>> = calls.collect();
            // What is dropped is left to the packets, which see the same pool.
            let left = |outcome| {
                let is_dropped = outcome == Outcome::DroppedNoLocalEndpoint;
                if is_dropped { Outcome::PassedLeftToTc } else { outcome }
            };
            assert_eq!(ended, all_of(cell.ends().map_err(left)), "{kind:?} {cell:?}");
        }
    }
}

/// The cells of the node's own processes, which send packets to a frontend only where these are dropped.
fn of_processes() -> impl Iterator<Item = Cell> {
    cells().into_iter().filter(|cell| cell.class == SourceClass::Host)
}

/// Calls made in each cell, each by a socket of its own.
const CALLS: u16 = 64;

/// A process connects; returns the backend that its socket gets.
fn call<A: InSettings>(
    world: &World<Rows>,
    cell: &Cell,
    kind: CallKind,
    entropy: u16,
) -> Result<SocketAddr, Outcome>
where
    World<Rows>: lb_ebpf::world::World<A>,
{
    let frontend = frontend(cell);
    assert!(socket_lb::may_be_service(world, &frontend), "{cell:?}");
    let (mut socket, mut scratch) = (SocketRevNat::new(), socket_lb::Scratch::new());
    let call =
        Call { kind, frontend: &frontend, class: cell.class, own_port: Port::new(0), entropy };
    let peer = socket_lb::select(&mut socket, world, call, || Some(&mut scratch))?;
    assert_eq!(peer.frontend, frontend, "{cell:?}");
    Ok(endpoint(peer.backend.address.to_ip(), peer.backend.port))
}

fn frontend<A: Address>(cell: &Cell) -> Frontend<A> {
    let at = cell.destination();
    Frontend::new(A::from_ip(at.ip()).unwrap(), Port::new(at.port()), cell.protocol)
}

#[test]
fn pools_of_the_nodes_own_processes_hold_the_endpoints_that_the_policy_allows() {
    let contents = contents(DEVICE);
    for cell in of_processes() {
        let pool = match cell.family {
            Family::V4 => pool::<V4>(&contents, &cell),
            Family::V6 => pool::<V6>(&contents, &cell),
        };
        assert_eq!(pool, cell.ends(), "{cell:?}");
    }
}

/// What the row of the cell's frontend holds for its class.
fn pool<A: lb_userspace::maps::contents::InContents + Address>(
    contents: &Contents,
    cell: &Cell,
) -> Result<BTreeSet<SocketAddr>, Outcome> {
    let rows = A::rows(contents);
    let pool = rows.frontends[&frontend(cell)].pool(cell.class);
    match pool.empty_reason() {
        Some(EmptyPoolReason::NoEndpoint) => Err(Outcome::RejectedNoEndpoint),
        Some(EmptyPoolReason::NoLocalEndpoint) => Err(Outcome::DroppedNoLocalEndpoint),
        None => Ok(contents.slots[&pool.base]
            .backends()
            .map(|id| &rows.backends[&id])
            .map(|row| endpoint(row.address.to_ip(), row.port))
            .collect()),
    }
}
