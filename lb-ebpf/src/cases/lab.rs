//! Where the cases happen: addresses, devices, Services. The kernel tests build the same with
//! namespaces and routes.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Address, Family, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::hash;
use lb_common::service::{AddressRow, Frontend, FrontendRow, Pool, ServiceId, Verdict};
use lb_common::settings::Prefix;
use lb_common::source_range::SourceRange;

use crate::memory::{FamilyRows, Rows, World};
use crate::tables::{Link, NextHop};

/// Link address of the node's network device.
pub const NODE_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Link address of the router that the node reaches everything outside by.
pub const ROUTER_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Largest packet on that link, in bytes.
pub const MTU: u32 = 1400;
/// First source port for translated flows.
pub const FIRST_SOURCE_PORT: u16 = 20_000;
/// How many there are.
pub const SOURCE_PORTS: u16 = 5_000;
/// A source port on which the node has a UDP and a TCP socket.
pub const SOCKET_PORT: u16 = FIRST_SOURCE_PORT;

/// The Service port that only the client outside may dial.
const RESTRICTED: ServiceId = ServiceId(2);

/// The two pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pod {
    /// On this node.
    Here = 1,
    /// On another.
    Elsewhere = 2,
}

impl Pod {
    const ALL: [Self; 2] = [Self::Here, Self::Elsewhere];
}

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dial {
    /// A Service whose one endpoint is the pod here.
    Here = 1,
    /// Another Service with the same endpoint.
    HereToo = 2,
    /// A Service whose one endpoint is the pod elsewhere.
    Elsewhere = 3,
    /// Another Service with the same endpoint.
    ElsewhereToo = 4,
    /// A Service without endpoints.
    Nobody = 5,
    /// A Service with endpoints elsewhere that may be reached on their own node only.
    NobodyHere = 6,
    /// A Service whose slot names no backend: an impossible state of the maps.
    Broken = 7,
    /// No Service at all.
    Nothing = 8,
    /// A Service like the first, for the client outside alone.
    Restricted = 9,
}

impl Dial {
    /// All that have a frontend.
    pub const SERVICES: [Self; 8] = [
        Self::Here,
        Self::HereToo,
        Self::Elsewhere,
        Self::ElsewhereToo,
        Self::Nobody,
        Self::NobodyHere,
        Self::Broken,
        Self::Restricted,
    ];

    fn pool(self) -> Pool {
        match self {
            Self::Here | Self::HereToo | Self::Restricted => Pool { base: 0, length: 1 },
            Self::Elsewhere | Self::ElsewhereToo => Pool { base: 1, length: 1 },
            Self::Broken => Pool { base: 2, length: 1 },
            Self::NobodyHere => Pool::empty(Verdict::NoLocalEndpoint),
            Self::Nobody | Self::Nothing => Pool::empty(Verdict::NoEndpoint),
        }
    }
}

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    /// The family.
    pub family: Family,
}

impl Lab {
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
            Pod::Here => self.ip("10.244.1.5", "fd00:244:1::5"),
            Pod::Elsewhere => self.ip("10.244.2.6", "fd00:244:2::6"),
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
    pub fn dial(self, dial: Dial) -> SocketAddr {
        let number = dial as u8;
        let address = self.ip(&format!("10.96.0.{number}"), &format!("fd00:96::{number}"));
        SocketAddr::new(address, 80)
    }

    /// An address of the service CIDR that no Service has, by port.
    #[must_use]
    pub fn unallocated(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("10.96.0.0", "fd00:96::"), port)
    }

    /// A router on the way to the pod elsewhere and to the client.
    #[must_use]
    pub fn router(self) -> IpAddr {
        self.ip("192.0.2.254", "2001:db8:2::fe")
    }

    /// The source port that a flow's `attempt`th try gets.
    #[must_use]
    pub fn source_port(
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
        crate::connect::source_port(FIRST_SOURCE_PORT, SOURCE_PORTS, hash, attempt).number()
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
        v4: family_rows(Lab { family: Family::V4 }),
        v6: family_rows(Lab { family: Family::V6 }),
        slots: vec![BackendId(Pod::Here as u32), BackendId(Pod::Elsewhere as u32), BackendId(99)],
        source_ports: (FIRST_SOURCE_PORT, SOURCE_PORTS),
        services: Some((
            Prefix { first: V4([10, 96, 0, 0]), mask: V4([255, 255, 255, 248]) },
            Prefix { first: V6(FIRST_SERVICE_V6), mask: V6(SERVICES_MASK_V6) },
        )),
        own: Some((
            address(Lab { family: Family::V4 }.node(0).ip()),
            address(Lab { family: Family::V6 }.node(0).ip()),
        )),
    }
}

fn family_rows<A: Address>(lab: Lab) -> FamilyRows<A> {
    let mut rows = FamilyRows::default();
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    for (offset, protocol) in protocols.into_iter().enumerate() {
        for pod in Pod::ALL {
            // One row per pod serves both protocols' frontends: a case looks at one at a time.
            let at = lab.pod(pod, BACKEND_PORT);
            let local = if pod == Pod::Here { Backend::<A>::LOCAL } else { 0 };
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
        for dial in Dial::SERVICES {
            let at = lab.dial(dial);
            let frontend = Frontend::new(address(at.ip()), Port::new(at.port()), protocol);
            let pools = [dial.pool(); 3];
            let (service, flags) = if dial == Dial::Restricted {
                (RESTRICTED, FrontendRow::RESTRICTED)
            } else {
                (ServiceId(1), 0)
            };
            let row = FrontendRow { service, pools, affinity: 0, flags };
            rows.frontends.insert(frontend, row);
        }
    }
    for dial in Dial::SERVICES {
        let row = AddressRow { flags: AddressRow::CLUSTER_IP | AddressRow::PING };
        rows.addresses.insert(address(lab.dial(dial).ip()), row);
    }
    rows.addresses.insert(address(lab.node(0).ip()), AddressRow { flags: 0 });
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
    let (v4, v6) = (Lab { family: Family::V4 }, Lab { family: Family::V6 });
    for lab in [v4, v6] {
        for at in [lab.client(0), lab.pod(Pod::Elsewhere, 0)] {
            match at.ip() {
                IpAddr::V4(_) => world.v4.routes.insert(address(at.ip()), next_hop),
                IpAddr::V6(_) => world.v6.routes.insert(address(at.ip()), next_hop),
            };
        }
    }
    world.here.set(device);
    world.v4.own_addresses.insert(device, address(v4.node(0).ip()));
    world.v6.own_addresses.insert(device, address(v6.node(0).ip()));
    world
}
