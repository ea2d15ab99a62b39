//! Who is where in the benchmark's namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::address::{Address, Family, Port, Protocol, V4, V6};
use lb_common::hash;
use lb_common::snat::Rows;
use lb_ebpf::cases::topology::{self, BACKEND_PORT};

/// Port of flow 0 at its client.
pub const FIRST_CLIENT_PORT: u16 = 40_000;
/// Port of flow 0 at this node, where its source is translated; the first of the range.
pub const FIRST_OWN_PORT: u16 = 1024;
/// Source ports for translated flows: what an agent finds on a node with default settings.
pub const OWN_ROWS: Rows = Rows::of_spans(1, 28);
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
    /// One that is not a Service's, but whose bits the filter has.
    pub false_match: SocketAddr,
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
    let [frontend, non_service, false_match] =
        [80, 443, 444].map(|port| SocketAddr::new(frontend, port));
    Addresses { client, new_client, frontend, non_service, false_match, own, router, outside, link }
}

/// Where flows differ: the last two bytes of the source address, and those of the destination address, which the
/// ports follow.
pub const fn differ_at(family: Family) -> (u16, u16) {
    match family {
        Family::V4 => (28, 32),
        Family::V6 => (36, 52),
    }
}

/// The first `count` addresses from `first` on whose hashes differ in their lower bits: earlier builds choose an entry
/// of the FIB cache by them.
pub fn hosts(first: IpAddr, count: u32) -> Vec<IpAddr> {
    /// Entries of the cache.
    const CACHED: u32 = 1024;
    let mut taken = std::collections::BTreeSet::new();
    let candidates = (0..).map(|number| nth(first, number));
    let position = |host: &IpAddr| {
        let hash = match host {
            IpAddr::V4(_) => endpoint::<V4>(*host),
            IpAddr::V6(_) => endpoint::<V6>(*host),
        };
        hash % CACHED
    };
    candidates.filter(|host| taken.insert(position(host))).take(count as usize).collect()
}

fn endpoint<A: Address>(host: IpAddr) -> u32 {
    hash::endpoint::<A>(&topology::address(host), Port::new(0), Protocol(0))
}

/// The `number`th address after `first`.
fn nth(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + number).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + u128::from(number)).into(),
    }
}

/// The last two bytes of an address.
pub fn last_word(address: IpAddr) -> [u8; 2] {
    let [.., a, b] = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets();
    [a, b]
}

/// The `count` backends of the Service.
pub fn backends(family: Family, location: Location, count: u32) -> Vec<SocketAddr> {
    let text = match (family, location) {
        (Family::V4, Location::Local) => "10.244.1.16",
        (Family::V4, Location::Remote) => "10.244.2.16",
        (Family::V6, Location::Local) => "fd00:244:1::10",
        (Family::V6, Location::Remote) => "fd00:244:2::10",
    };
    let hosts = hosts(address(text), count).into_iter();
    hosts.map(|host| SocketAddr::new(host, BACKEND_PORT)).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("the addresses are written by hand")
}
