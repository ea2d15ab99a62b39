//! The catalogue of maps: name, key, value, kind and capacity of each.

mod capacity;
mod footprint;

pub use self::capacity::{Capacities, Capacity};
pub use self::footprint::Memory;
use crate::address::{Family, V4, V6};
use crate::affinity::{Affinity, Client};
use crate::backend::{Backend, Traffic};
use crate::conntrack::table::Stored;
use crate::device::Device;
use crate::fields::{Field, Fields};
use crate::filter;
use crate::fragment::{FirstFragment, Fragmented};
use crate::outcome::Outcome;
use crate::service::{Frontend, FrontendRow, IpPolicy, ServiceLabel};
use crate::settings::Settings;
use crate::snat::{GROUPS, HINT_ROWS, PortHints, Rows};
use crate::socket::{SocketRevNat, UdpConnected};
use crate::source_range::SourceRange;

/// The map types that Weir uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash,
    /// `BPF_MAP_TYPE_LPM_TRIE`
    LpmTrie,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// The same made with `BPF_F_MMAPABLE`: the agent maps it into its memory.
    MappedArray,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray,
    /// `BPF_MAP_TYPE_SK_STORAGE`: an entry per socket, which lives as long as the socket; it has no
    /// capacity, and its entries cannot be listed.
    SocketStorage,
    /// `BPF_MAP_TYPE_PROG_ARRAY`
    ProgramArray,
}

impl Capacities {
    /// The number of entries of `map`.
    #[must_use]
    pub const fn entries(&self, map: &Map) -> u32 {
        match map.kind {
            Kind::LruHash => self.lru_entries(self.entries_of(map.capacity)),
            Kind::Hash
            | Kind::LpmTrie
            | Kind::Array
            | Kind::MappedArray
            | Kind::PerCpuArray
            | Kind::SocketStorage
            | Kind::ProgramArray => self.entries_of(map.capacity),
        }
    }
}

/// Fragments queued at once, per family.
pub const QUEUED_FRAGMENTS: u32 = 256;

/// Neighbours of which it is known when they were confirmed.
pub const NEIGHBOURS: u32 = 8192;

/// LRU maps that the programs alone use, how many entries each is to hold, and the bytes of key and value.
pub const PROGRAMS_LRU: [(&str, u32, u32); 3] = [
    ("NEIGHBOURS", NEIGHBOURS, 32),
    ("FRAG_QUEUE_V4", QUEUED_FRAGMENTS, 2072),
    ("FRAG_QUEUE_V6", QUEUED_FRAGMENTS, 2096),
];

/// One map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Map {
    /// Name of the map in the object and of its pin.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// What determines its capacity.
    pub capacity: Capacity,
    /// The fields of a key.
    pub key: &'static [Field],
    /// The fields of a value; of the conntrack tables' see [`table::fields`](crate::conntrack::table::fields).
    pub value: &'static [Field],
}

const fn map<K: Fields, V: Fields>(name: &'static str, kind: Kind, capacity: Capacity) -> Map {
    Map {
        name,
        kind,
        key_size: size_of::<K>() as u32,
        value_size: size_of::<V>() as u32,
        capacity,
        key: K::FIELDS,
        value: V::FIELDS,
    }
}

/// A map that exists once in each family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerFamily {
    /// IPv4's.
    pub v4: Map,
    /// IPv6's.
    pub v6: Map,
}

impl PerFamily {
    /// The map of `family`.
    #[must_use]
    pub const fn of(&'static self, family: Family) -> &'static Map {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// Declares a map for each family: `NAME<A>: key, value, kind, capacity`.
macro_rules! per_family {
    ($($(#[$doc:meta])* $name:ident<$A:ident>: $key:ty, $value:ty, $kind:ident, $capacity:expr;)+) => {
        $(
            $(#[$doc])*
            pub const $name: PerFamily = PerFamily {
                v4: {
                    #[allow(dead_code, reason = "keys and values of some maps are the same in both families")]
                    type $A = V4;
                    map::<$key, $value>(concat!(stringify!($name), "_V4"), Kind::$kind, $capacity)
                },
                v6: {
                    #[allow(dead_code, reason = "keys and values of some maps are the same in both families")]
                    type $A = V6;
                    map::<$key, $value>(concat!(stringify!($name), "_V6"), Kind::$kind, $capacity)
                },
            };
        )+
    };
}

per_family! {
    /// [`Frontend`] → [`FrontendRow`].
    FRONTENDS<A>: Frontend<A>, FrontendRow, Hash, Capacity::Frontends;
    /// Backend id → [`Backend`].
    BACKENDS<A>: u32, Backend<A>, Array, Capacity::Backends;
    /// Bucket of the [`table`](crate::conntrack::table) of established flows → its places.
    CONNTRACK<A>: u32, <A as Stored>::Bucket, MappedArray, Capacity::ConntrackBuckets;
    /// Bucket of the table of flows not yet established → its places.
    HALF_OPEN<A>: u32, <A as Stored>::Bucket, MappedArray, Capacity::HalfOpenBuckets;
    /// Address → [`IpPolicy`].
    IP_POLICY<A>: A, IpPolicy, Hash, Capacity::Frontends;
    /// [`SourceRange`] → 1. Its entries take memory only while they exist.
    SRC_RANGES<A>: SourceRange<A>, u32, LpmTrie, Capacity::Fixed(1 << 16);
    /// [`Client`] → [`Affinity`].
    AFFINITY<A>: Client<A>, Affinity, LruHash, Capacity::Affinity;
    /// [`Fragmented`] → [`FirstFragment`].
    FRAGMENTS<A>: Fragmented<A>, FirstFragment, LruHash, Capacity::Fixed(8192);
    /// Backend id → [`Traffic`], per CPU.
    TRAFFIC<A>: u32, Traffic, PerCpuArray, Capacity::Backends;
    /// Socket → [`SocketRevNat`].
    SOCK_REV_NAT<A>: u32, SocketRevNat<A>, SocketStorage, Capacity::Fixed(0);
}

/// Service id → [`ServiceLabel`]; read and written by user space alone.
pub const SERVICES: Map = map::<u32, ServiceLabel>("SERVICES", Kind::Hash, Capacity::Services);
/// Slot → backend id; one flat array, of which each pool is a range.
pub const SLOTS: Map = map::<u32, u32>("SLOTS", Kind::MappedArray, Capacity::Slots);
/// Word → 64 bits of the [`filter`].
pub const FILTER: Map =
    map::<u32, u64>("FILTER", Kind::MappedArray, Capacity::Fixed(filter::WORDS));
/// Interface index → [`Device`].
pub const DEVICES: Map = map::<u32, Device>("DEVICES", Kind::Hash, Capacity::Fixed(4096));
/// 0 → [`Settings`].
pub const SETTINGS: Map = map::<u32, Settings>("SETTINGS", Kind::Array, Capacity::Fixed(1));
/// Row → 512 [`PortHints`], one bit each.
pub const PORT_HINTS: Map =
    map::<u32, PortHints>("PORT_HINTS", Kind::Array, Capacity::Fixed(HINT_ROWS));
/// Group of flows → [`Rows`] of source ports of which no port is free as far as the hints tell.
pub const FULL_ROWS: Map = map::<u32, Rows>("FULL_ROWS", Kind::Array, Capacity::Fixed(GROUPS));
/// [`Outcome`] → count, per CPU.
pub const OUTCOMES: Map =
    map::<u32, u64>("OUTCOMES", Kind::PerCpuArray, Capacity::Fixed(Outcome::COUNT));
/// Cookie of a connected UDP socket → [`UdpConnected`]. An entry stays after its socket is closed until
/// the LRU map evicts it; the agent refreshes the entries of open sockets.
pub const UDP_CONNECTED: Map =
    map::<u64, UdpConnected>("UDP_CONNECTED", Kind::LruHash, Capacity::Fixed(32_768));

/// 0 → whether new flows go to the conntrack tables of the new size, while the agent resizes them. Pinned only as long.
pub const RESIZE: Map = map::<u32, u32>("RESIZE", Kind::Array, Capacity::Fixed(1));

/// 0 → the layout of these maps, as text; read and written by user space alone.
pub const LAYOUT: Map = map::<u32, LayoutText>("LAYOUT", Kind::Array, Capacity::Fixed(1));
/// Bytes of the text, in words.
pub type LayoutText = [u64; 2048];
/// 0 → whether packets of unknown flows are handed over to the programs of another layout; 0 or 1.
pub const HANDOVER: Map = map::<u32, u32>("HANDOVER", Kind::Array, Capacity::Fixed(1));
/// Number of a [`Successor`] → the program.
pub const SUCCESSORS: Map =
    map::<u32, u32>("SUCCESSORS", Kind::ProgramArray, Capacity::Fixed(Successor::ALL.len() as u32));

/// The programs that packets are handed over to; numbers that every release has alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Successor {
    /// Ingress of pod-facing devices.
    FromPod = 0,
    /// Ingress of network-facing devices; packets have a link header.
    FromNetwork = 1,
    /// Egress of devices with a link header.
    ToDevice = 2,
    /// Egress of others.
    ToDeviceL3 = 3,
}

impl Successor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromPod, Self::FromNetwork, Self::ToDevice, Self::ToDeviceL3];
}

/// Every map that is pinned.
pub fn pinned() -> impl Iterator<Item = &'static Map> {
    ALL.iter().chain(OF_SOCKETS).chain(OF_RELEASES)
}

/// The maps by which one layout takes over from another one. They are the same in every layout.
pub const OF_RELEASES: &[Map] = &[LAYOUT, HANDOVER, SUCCESSORS];

/// The maps of sockets.
pub const OF_SOCKETS: &[Map] = &[SOCK_REV_NAT.v4, SOCK_REV_NAT.v6, UDP_CONNECTED];

/// Every pinned map but those of sockets and releases. The programs have more maps per CPU, for the FIB cache and
/// scratch space, which are not pinned.
pub const ALL: &[Map] = &[
    SERVICES,
    FRONTENDS.v4,
    FRONTENDS.v6,
    SLOTS,
    BACKENDS.v4,
    BACKENDS.v6,
    CONNTRACK.v4,
    CONNTRACK.v6,
    HALF_OPEN.v4,
    HALF_OPEN.v6,
    IP_POLICY.v4,
    IP_POLICY.v6,
    SRC_RANGES.v4,
    SRC_RANGES.v6,
    AFFINITY.v4,
    AFFINITY.v6,
    FRAGMENTS.v4,
    FRAGMENTS.v6,
    FILTER,
    DEVICES,
    SETTINGS,
    PORT_HINTS,
    FULL_ROWS,
    OUTCOMES,
    TRAFFIC.v4,
    TRAFFIC.v6,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_short_enough_for_a_pin() {
        for (i, map) in pinned().enumerate() {
            assert!(pinned().skip(i + 1).all(|other| other.name != map.name));
            assert!(map.name.len() < 16, "the kernel cuts {} at 15 bytes", map.name);
        }
    }
}
