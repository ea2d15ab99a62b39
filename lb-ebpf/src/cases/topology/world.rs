//! The topology in memory: what the agent writes into the maps, routes and sockets.

use std::net::IpAddr;

use lb_common::address::{Address, Family, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, IpPolicy, Pool, ServiceId};
use lb_common::settings::Prefix;
use lb_common::source_range::SourceRange;

use super::addresses::{
    BACKEND_PORT, MTU, NODE_LINK, Pod, ROUTER_LINK, SNAT_TIERS, Target, Topology, address, tuple,
};
use crate::in_memory::{FamilyRows, Rows, World};
use crate::world::{Link, NextHop};

/// The Service port whose source ranges allow the external client alone.
const RESTRICTED: ServiceId = ServiceId(2);

/// The first address of the IPv6 service CIDR, a /125; that of IPv4 is a /29.
const FIRST_SERVICE_V6: [u8; 16] = [0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SERVICES_MASK_V6: [u8; 16] =
    [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0xf8];

/// The topology in memory, with sockets of the node on [`Topology::socket_ports`] that are connected to the
/// remote pod. `device` is the interface index of the node's network device.
#[must_use]
pub fn world_with_sockets(device: u32) -> World<Rows> {
    let mut world = world(device);
    for family in Family::ALL {
        let topology = Topology { family };
        let backend = topology.pod(Pod::Remote, BACKEND_PORT);
        let ends = topology
            .socket_ports()
            .into_iter()
            .flat_map(|port| [(port, Protocol::TCP), (port, Protocol::UDP)]);
        for (port, protocol) in ends {
            let own = topology.node(port);
            match family {
                Family::V4 => world.v4.sockets.insert(tuple(backend, own, protocol)),
                Family::V6 => world.v6.sockets.insert(tuple(backend, own, protocol)),
            };
        }
    }
    world
}

/// The topology in memory. `device` is the interface index of the node's network device.
#[must_use]
pub fn world(device: u32) -> World<Rows> {
    let mut world = World::new(rows());
    let link = Link::new(ROUTER_LINK, NODE_LINK);
    let next_hop = NextHop { device, mtu: MTU, link: Some(link) };
    let (v4, v6) = (Topology { family: Family::V4 }, Topology { family: Family::V6 });
    for topology in [v4, v6] {
        for at in [topology.client(0), topology.pod(Pod::Remote, 0)] {
            match at.ip() {
                IpAddr::V4(_) => world.v4.routes.insert(address(at.ip()), next_hop),
                IpAddr::V6(_) => world.v6.routes.insert(address(at.ip()), next_hop),
            };
        }
    }
    world.device.set(device);
    world.link.set(NODE_LINK);
    world.v4.device_addresses.insert(device, address(v4.node(0).ip()));
    let Link(words) = link;
    world.v4.confirmed.borrow_mut().insert((device, words));
    world.v6.confirmed.borrow_mut().insert((device, words));
    world.v6.device_addresses.insert(device, address(v6.node(0).ip()));
    world
}

/// The agent's rows for the topology.
#[must_use]
pub fn rows() -> Rows {
    let (v4, v6) = (Topology { family: Family::V4 }, Topology { family: Family::V6 });
    Rows {
        v4: family_rows(v4),
        v6: family_rows(v6),
        slots: vec![BackendId(Pod::Local as u32), BackendId(Pod::Remote as u32), BackendId(99)],
        snat_tiers: SNAT_TIERS,
        services: Some((
            Prefix { first: V4([10, 96, 0, 0]), mask: V4([255, 255, 255, 248]) },
            Prefix { first: V6(FIRST_SERVICE_V6), mask: V6(SERVICES_MASK_V6) },
        )),
        own: Some((address(v4.node(0).ip()), address(v6.node(0).ip()))),
    }
}

fn family_rows<A: Address>(topology: Topology) -> FamilyRows<A> {
    let mut rows = FamilyRows::default();
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    for (offset, protocol) in (0..).step_by(10).zip(protocols) {
        for pod in Pod::ALL {
            rows.backends.insert(BackendId(pod as u32 + offset), backend(topology, pod, protocol));
        }
        for target in Target::SERVICES {
            let at = topology.frontend(target);
            let frontend = Frontend::new(address(at.ip()), Port::new(at.port()), protocol);
            rows.frontends.insert(frontend, frontend_row(target));
        }
    }
    for target in Target::SERVICES {
        let row = IpPolicy { flags: IpPolicy::CLUSTER_IP | IpPolicy::ECHO };
        rows.ip_policies.insert(address(topology.frontend(target).ip()), row);
    }
    rows.ip_policies.insert(address(topology.node(0).ip()), IpPolicy { flags: 0 });
    let prefix_length = match topology.family {
        Family::V4 => 29,
        Family::V6 => 125,
    };
    let first = address(topology.unallocated(0).ip());
    rows.source_ranges.insert(SourceRange::new(SourceRange::<A>::CLUSTER, first, prefix_length));
    rows.source_ranges.insert(SourceRange::of(RESTRICTED, address(topology.client(0).ip())));
    rows
}

/// A pod's row. The rows of TCP serve the frontends of all protocols: the slots name no others.
fn backend<A: Address>(topology: Topology, pod: Pod, protocol: Protocol) -> Backend<A> {
    let at = topology.pod(pod, BACKEND_PORT);
    let local = if pod == Pod::Local { Backend::<A>::LOCAL } else { 0 };
    Backend {
        address: address(at.ip()),
        port: Port::new(at.port()),
        protocol,
        flags: Backend::<A>::SERVING | local,
        generation: 1,
        service: ServiceId(1),
    }
}

fn frontend_row(target: Target) -> FrontendRow {
    let (service, flags) = if target == Target::Restricted {
        (RESTRICTED, FrontendRow::RESTRICTED)
    } else {
        (ServiceId(1), 0)
    };
    FrontendRow { service, pools: [pool(target); 3], affinity: 0, flags }
}

fn pool(target: Target) -> Pool {
    match target {
        Target::Local | Target::LocalToo | Target::Restricted | Target::NodePort => {
            Pool { base: 0, length: 1 }
        }
        Target::Remote | Target::RemoteToo => Pool { base: 1, length: 1 },
        Target::Broken => Pool { base: 2, length: 1 },
        Target::NoLocalEndpoints => Pool::empty(EmptyPoolReason::NoLocalEndpoint),
        Target::NoEndpoints | Target::NotAService => Pool::empty(EmptyPoolReason::NoEndpoint),
    }
}
