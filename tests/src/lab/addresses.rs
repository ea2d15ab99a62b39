//! The addresses of a lab. Each lab has namespaces of its own, so all labs use the same
//! addresses, and manifests can be written down.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::address::Family;

/// An address of each family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The address of `family`.
    #[must_use]
    pub const fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }
}

/// The client outside, which is behind the router.
pub const CLIENT: Addresses = Addresses {
    v4: Ipv4Addr::new(198, 51, 100, 9),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
};

/// The router on the client's side.
pub const CLIENT_GATEWAY: Addresses = Addresses {
    v4: Ipv4Addr::new(198, 51, 100, 1),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
};

/// The router on the nodes' side.
pub const NODE_GATEWAY: Addresses =
    Addresses { v4: Ipv4Addr::new(172, 30, 0, 1), v6: Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 1) };

/// The address of node `number`, counted from 1.
#[must_use]
pub fn node(number: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(172, 30, 0, 10 + number),
        v6: Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(number)),
    }
}

/// The address that node `number` has in an overlay: the first of its pods' range in IPv4, where nothing
/// has it; number 255 in IPv6, where the first is every router's.
#[must_use]
pub fn overlay(number: u8) -> Addresses {
    Addresses { v4: pod(number, 0).v4, v6: pod(number, 255).v6 }
}

/// The address of pod `pod` of node `node`, both counted from 1. Pod 0 stands for the node's range.
#[must_use]
pub fn pod(node: u8, pod: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(10, 244, node, pod),
        v6: Ipv6Addr::new(0xfd44, u16::from(node), 0, 0, 0, 0, 0, u16::from(pod)),
    }
}

/// The ClusterIPs of the Service that tests call number `number`.
#[must_use]
pub fn service(number: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(10, 96, 0, number),
        v6: Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, u16::from(number)),
    }
}

/// The VIPs of the Service that tests call number `number`. The network sends them to node1, as it
/// would if node1 announced them.
#[must_use]
pub fn vip(number: u8) -> Addresses {
    Addresses {
        v4: Ipv4Addr::new(203, 0, 113, number),
        v6: Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, u16::from(number)),
    }
}
