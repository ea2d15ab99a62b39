//! Addresses and ports of the topology, in both families.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Address, Family, Port, Protocol, Tuple, V4, V6};
use lb_common::hash;
use lb_common::snat::{Rows, TIERS};

use crate::conntrack::nat;

/// Link address of the node's network device.
pub const NODE_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Link address of the router, the next hop to the remote node and to the client.
pub const ROUTER_LINK: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// MTU of the link to the router, in bytes.
pub const MTU: u32 = 1400;
/// Source ports for SNAT: 20480 to 24575.
pub const SNAT_TIERS: [Rows; TIERS] = [Rows::of_spans(20, 23); TIERS];
/// The port of a client of the remote Service whose first source port for SNAT is that of a socket.
pub const UNLUCKY_PORT: u16 = 40_007;
/// The port backends listen on.
pub const BACKEND_PORT: u16 = 8080;

/// The two pods that are backends. The discriminant is the backend's ID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pod {
    /// On this node.
    Local = 1,
    /// On the remote node.
    Remote = 2,
}

impl Pod {
    pub(super) const ALL: [Self; 2] = [Self::Local, Self::Remote];
}

/// The Service that a client connects to. The discriminant is the last byte of its ClusterIP.
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
    /// A Service like the first, whose source ranges allow the external client alone.
    Restricted = 9,
    /// A Service at the node's own address whose one endpoint is the local pod.
    NodePort = 10,
}

impl Target {
    /// All that have a frontend.
    pub const SERVICES: [Self; 9] = [
        Self::Local,
        Self::LocalToo,
        Self::Remote,
        Self::RemoteToo,
        Self::NoEndpoints,
        Self::NoLocalEndpoints,
        Self::Broken,
        Self::Restricted,
        Self::NodePort,
    ];
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
        text.parse().expect("the topology's addresses are written by hand")
    }

    /// The external client, by port.
    #[must_use]
    pub fn client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("198.51.100.9", "2001:db8:9::9"), port)
    }

    /// An external client without a route, by port.
    #[must_use]
    pub fn unroutable_client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("203.0.113.9", "2001:db8:dead::9"), port)
    }

    /// The node's own address, by port.
    #[must_use]
    pub fn node(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("192.0.2.1", "2001:db8:2::1"), port)
    }

    /// A pod that is a backend, by port.
    #[must_use]
    pub fn pod(self, pod: Pod, port: u16) -> SocketAddr {
        let address = match pod {
            Pod::Local => self.ip("10.244.1.5", "fd00:244:1::5"),
            Pod::Remote => self.ip("10.244.2.6", "fd00:244:2::6"),
        };
        SocketAddr::new(address, port)
    }

    /// The local pod that is a client and no backend, by port.
    #[must_use]
    pub fn client_pod(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("10.244.1.4", "fd00:244:1::4"), port)
    }

    /// The ClusterIP and port of a Service, the node's address and a node port, or an address that is none.
    #[must_use]
    pub fn frontend(self, target: Target) -> SocketAddr {
        if target == Target::NodePort {
            return self.node(30_081);
        }
        let number = target as u8;
        let address = self.ip(&format!("10.96.0.{number}"), &format!("fd00:96::{number}"));
        SocketAddr::new(address, 80)
    }

    /// An address of the service CIDR that no Service has, by port.
    #[must_use]
    pub fn unallocated(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip("10.96.0.0", "fd00:96::"), port)
    }

    /// The router, the next hop to the remote pod and to the client.
    #[must_use]
    pub fn router(self) -> IpAddr {
        self.ip("192.0.2.254", "2001:db8:2::fe")
    }

    /// The ports on which the node has sockets, a TCP and a UDP one.
    #[must_use]
    pub fn socket_ports(self) -> [u16; 2] {
        let (from, to) = (self.client(UNLUCKY_PORT), self.frontend(Target::Remote));
        [Protocol::TCP, Protocol::UDP].map(|protocol| self.snat_port(from, to, protocol, 0))
    }

    /// The source port that SNAT tries as the `number`th for a flow, counted from 0.
    #[must_use]
    pub fn snat_port(
        self,
        from: SocketAddr,
        to: SocketAddr,
        protocol: Protocol,
        number: u32,
    ) -> u16 {
        let hash = match self.family {
            Family::V4 => hash::tuple(&tuple::<V4>(from, to, protocol)),
            Family::V6 => hash::tuple(&tuple::<V6>(from, to, protocol)),
        };
        nat::port_of_hash(&SNAT_TIERS[0], hash, number).number()
    }
}

/// The tuple of packets from `from` to `to`.
///
/// # Panics
/// An address is not of the family `A`.
#[must_use]
pub fn tuple<A: Address>(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Tuple<A> {
    let port = |end: SocketAddr| Port::new(end.port());
    Tuple::new(address(from.ip()), port(from), address(to.ip()), port(to), protocol)
}

/// `ip` at the width of `A`.
///
/// # Panics
/// It is of the other family.
#[must_use]
pub fn address<A: Address>(ip: IpAddr) -> A {
    A::from_ip(ip).expect("the address is of the topology's family")
}
