//! Who is where in the benchmark's namespace.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::Family;
use lb_ebpf::cases::topology::BACKEND_PORT;

/// Bits of a flow's number that stand in its port; the other four name a host.
pub const PORT_BITS: u32 = 12;
/// Backends of a Service.
pub const BACKENDS: u32 = 16;
/// Port of flow 0 at its client.
pub const FIRST_CLIENT_PORT: u16 = 40_000;
/// Port of flow 0 at this node, where its source is translated; the first of the range.
pub const FIRST_OWN_PORT: u16 = 1024;
/// Source ports for translated flows: what an agent finds on a node with default settings.
pub const OWN_PORTS: u16 = 28_976;
/// Bytes of payload.
pub const PAYLOAD: usize = 64;

/// Where a flow's backend is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Location {
    /// On this node: the destination is translated, and the packet stays in the stack.
    Local,
    /// On another: source and destination are translated, and the packet leaves at once.
    Remote,
}

/// The addresses of one family.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// The first of the clients whose flows are established.
    pub client: IpAddr,
    /// The first of those whose flows are new.
    pub new_client: IpAddr,
    /// The Service's frontend.
    pub frontend: SocketAddr,
    /// An address and port that is not a Service's.
    pub non_service: SocketAddr,
    /// This node.
    pub own: IpAddr,
    /// The router that leads to all others.
    pub router: IpAddr,
    /// Networks behind it.
    pub outside: [&'static str; 2],
    /// Length of the prefix of this node's link.
    pub link: &'static str,
}

/// The addresses of `family`.
pub fn of(family: Family) -> Addresses {
    // Clients and backends of which no two share an entry of the FIB cache.
    let [client, new_client, frontend, own, router] = match family {
        Family::V4 => ["198.51.100.16", "198.52.0.0", "203.0.113.1", "192.0.2.1", "192.0.2.2"],
        Family::V6 => {
            ["2001:db8:9::20", "2001:db8:a::", "2001:db8:f::1", "2001:db8:2::1", "2001:db8:2::2"]
        }
    }
    .map(address);
    let (outside, link) = match family {
        Family::V4 => (["198.51.100.0/24", "10.244.2.0/24"], "24"),
        Family::V6 => (["2001:db8:9::/64", "fd00:244:2::/64"], "64 nodad"),
    };
    let (non_service, frontend) = (SocketAddr::new(frontend, 443), SocketAddr::new(frontend, 80));
    Addresses { client, new_client, frontend, non_service, own, router, outside, link }
}

/// The backend that flows of `host` have, below [`BACKENDS`].
pub fn backend(family: Family, location: Location, host: u32) -> SocketAddr {
    let subnet = if location == Location::Local { 1 } else { 2 };
    let host = host + 16;
    let text = match family {
        Family::V4 => format!("10.244.{subnet}.{host}"),
        Family::V6 => format!("fd00:244:{subnet}::{host:x}"),
    };
    SocketAddr::new(address(&text), BACKEND_PORT)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("the addresses are written by hand")
}
