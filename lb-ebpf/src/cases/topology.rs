//! Where the cases happen: addresses, devices, Services. The kernel tests build the same with
//! namespaces and routes.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Address, Family, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::hash;
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, IpPolicy, Pool, ServiceId};
use lb_common::settings::Prefix;
use lb_common::source_range::SourceRange;

use crate::in_memory::{FamilyRows, Rows, World};
use crate::world::{Link, NextHop};

/// Link address of the node's network device.
pub const NODE_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Link address of the router that the node reaches everything outside by.
pub const ROUTER_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Largest packet on that link, in bytes.
pub const MTU: u32 = 1400;
/// First source port for SNAT.
pub const FIRST_SNAT_PORT: u16 = 20_000;
/// How many there are.
pub const SNAT_PORTS: u16 = 5_000;
/// A source port on which the node has a UDP and a TCP socket.
pub const SOCKET_PORT: u16 = FIRST_SNAT_PORT;

/// The Service port that only the client outside may use.
const RESTRICTED: ServiceId = ServiceId(2);

/// The two pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pod {
    /// On this node.
    Local = 1,
    /// On another.
    Remote = 2,
}

impl Pod {
    const ALL: [Self; 2] = [Self::Local, Self::Remote];
}

/// What clients connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A Service whose one endpoint is the local pod.
    Local = 1,
    /// Another Service with the same endpoint.
    LocalToo = 2,
    /// A Service whose one endpoint is the remote pod.
    Remote = 3,
    /// Another Service with the same endpoint.
    RemoteToo = 4,
    /// A Service without endpoints.
    NoEndpoints = 5,
    /// A Service of policy Local whose endpoints are remote.
    NoLocalEndpoints = 6,
    /// A Service whose slot names no backend: an impossible state of the maps.
    Broken = 7,
    /// No Service at all.
    NotAService = 8,
    /// A Service like the first, for the client outside alone.
    Restricted = 9,
}

impl Target {
    /// All that have a frontend.
    pub const SERVICES: [Self; 8] = [
        Self::Local,
        Self::LocalToo,
        Self::Remote,
        Self::RemoteToo,
        Self::NoEndpoints,
        Self::NoLocalEndpoints,
        Self::Broken,
        Self::Restricted,
    ];

    fn pool(self) -> Pool {
        match self {
            Self::Local | Self::LocalToo | Self::Restricted => Pool { base: 0, length: 1 },
            Self::Remote | Self::RemoteToo => Pool { base: 1, length: 1 },
            Self::Broken => Pool { base: 2, length: 1 },
            Self::NoLocalEndpoints => Pool::empty(EmptyPoolReason::NoLocalEndpoint),
            Self::NoEndpoints | Self::NotAService => Pool::empty(EmptyPoolReason::NoEndpoint),
        }
    }
}

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// The family.
    pub family: Family,
}

impl Topology {
    fn ip(self, v4: &str, v6: &str) -> IpAddr {
        let text = match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        text.parse().expect("the lab's addresses are written by hand")
    }

    /// A client outside, by its port.
    #[must_use]
    pub fn client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("198.51.100.9", "2001:db8:9::9"), port)
    }

    /// A client outside that no route leads to.
    #[must_use]
    pub fn lost_client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("203.0.113.9", "2001:db8:dead::9"), port)
    }

    /// This node's own address, by port.
    #[must_use]
    pub fn node(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("192.0.2.1", "2001:db8:2::1"), port)
    }

    /// A pod, by port.
    #[must_use]
    pub fn pod(self, pod: Pod, port: u16) -> SocketAddr {
        let address = match pod {
            Pod::Local => self.ip("10.244.1.5", "fd00:244:1::5"),
            Pod::Remote => self.ip("10.244.2.6", "fd00:244:2::6"),
        };
        SocketAddr::new(address, port)
    }

    /// Another pod on this node, which is no backend, by port.
    #[must_use]
    pub fn neighbour(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("10.244.1.4", "fd00:244:1::4"), port)
    }

    /// A frontend, or an address that is none.
    #[must_use]
    pub fn frontend(self, target: Target) -> SocketAddr {
        let number = target as u8;
        let address = self.ip(&format!("10.96.0.{number}"), &format!("fd00:96::{number}"));
        SocketAddr::new(address, 80)
    }

    /// An address of the service CIDR that no Service has, by port.
    #[must_use]
    pub fn unallocated(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("10.96.0.0", "fd00:96::"), port)
    }

    /// A router on the way to the remote pod and to the client.
    #[must_use]
    pub fn router(self) -> IpAddr {
        self.ip("192.0.2.254", "2001:db8:2::fe")
    }

    /// The source port of a flow's `attempt`th attempt.
    #[must_use]
    pub fn snat_port(
        self,
        from: SocketAddr,
        to: SocketAddr,
        protocol: Protocol,
        attempt: u32,
    ) -> u16 {
        let hash = match self.family {
            Family::V4 => hash::tuple(&super::frame::tuple::<V4>(from, to, protocol)),
            Family::V6 => hash::tuple(&super::frame::tuple::<V6>(from, to, protocol)),
        };
        crate::conntrack::nat::snat_port(FIRST_SNAT_PORT, SNAT_PORTS, hash, attempt).number()
    }
}

/// The first address of the IPv6 service CIDR, which has 125 bits as IPv4's has 29.
const FIRST_SERVICE_V6: [u8; 16] = [0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SERVICES_MASK_V6: [u8; 16] =
    [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0xf8];

/// The port backends listen on.
pub const BACKEND_PORT: u16 = 8080;

/// The agent's rows for the lab.
#[must_use]
pub fn rows() -> Rows {
    Rows {
        v4: family_rows(Topology { family: Family::V4 }),
        v6: family_rows(Topology { family: Family::V6 }),
        slots: vec![BackendId(Pod::Local as u32), BackendId(Pod::Remote as u32), BackendId(99)],
        snat_ports: (FIRST_SNAT_PORT, SNAT_PORTS),
        services: Some((
            Prefix { first: V4([10, 96, 0, 0]), mask: V4([255, 255, 255, 248]) },
            Prefix { first: V6(FIRST_SERVICE_V6), mask: V6(SERVICES_MASK_V6) },
        )),
        own: Some((
            address(Topology { family: Family::V4 }.node(0).ip()),
            address(Topology { family: Family::V6 }.node(0).ip()),
        )),
    }
}

fn family_rows<A: Address>(lab: Topology) -> FamilyRows<A> {
    let mut rows = FamilyRows::default();
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    for (offset, protocol) in protocols.into_iter().enumerate() {
        for pod in Pod::ALL {
            // One row per pod serves both protocols' frontends: a case looks at one at a time.
            let at = lab.pod(pod, BACKEND_PORT);
            let local = if pod == Pod::Local { Backend::<A>::LOCAL } else { 0 };
            let row = Backend {
                address: address(at.ip()),
                port: Port::new(at.port()),
                protocol,
                flags: Backend::<A>::SERVING | local,
                generation: 1,
                service: ServiceId(1),
            };
            rows.backends.insert(BackendId(pod as u32 + 10 * offset as u32), row);
        }
        for target in Target::SERVICES {
            let at = lab.frontend(target);
            let frontend = Frontend::new(address(at.ip()), Port::new(at.port()), protocol);
            let pools = [target.pool(); 3];
            let (service, flags) = if target == Target::Restricted {
                (RESTRICTED, FrontendRow::RESTRICTED)
            } else {
                (ServiceId(1), 0)
            };
            let row = FrontendRow { service, pools, affinity: 0, flags };
            rows.frontends.insert(frontend, row);
        }
    }
    for target in Target::SERVICES {
        let row = IpPolicy { flags: IpPolicy::CLUSTER_IP | IpPolicy::ECHO };
        rows.ip_policies.insert(address(lab.frontend(target).ip()), row);
    }
    rows.ip_policies.insert(address(lab.node(0).ip()), IpPolicy { flags: 0 });
    let (first, length) = match lab.family {
        Family::V4 => (lab.unallocated(0), 29),
        Family::V6 => (lab.unallocated(0), 125),
    };
    let range = SourceRange::new(SourceRange::<A>::CLUSTER, address(first.ip()), length);
    rows.source_ranges.insert(range);
    let allowed = SourceRange::of(RESTRICTED, address(lab.client(0).ip()));
    rows.source_ranges.insert(allowed);
    rows
}

/// `ip` at the width of `A`.
///
/// # Panics
/// It is of the other family.
#[must_use]
pub fn address<A: Address>(ip: IpAddr) -> A {
    A::from_ip(ip).expect("the family is the lab's")
}

/// The lab in memory. `device` is the network device's interface index.
#[must_use]
pub fn world(device: u32) -> World<Rows> {
    let mut world = World::new(rows());
    let link = Link::new(ROUTER_LINK, NODE_LINK);
    let next_hop = NextHop { device, mtu: MTU, link: Some(link) };
    let (v4, v6) = (Topology { family: Family::V4 }, Topology { family: Family::V6 });
    for lab in [v4, v6] {
        for at in [lab.client(0), lab.pod(Pod::Remote, 0)] {
            match at.ip() {
                IpAddr::V4(_) => world.v4.routes.insert(address(at.ip()), next_hop),
                IpAddr::V6(_) => world.v6.routes.insert(address(at.ip()), next_hop),
            };
        }
    }
    world.device.set(device);
    world.v4.device_addresses.insert(device, address(v4.node(0).ip()));
    world.v6.device_addresses.insert(device, address(v6.node(0).ip()));
    world
}
