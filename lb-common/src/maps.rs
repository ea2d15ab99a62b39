//! The catalogue: every map's name, key, value, kind, capacity and life, written once.

use crate::address::{Tuple, V4, V6};
use crate::affinity::{Affinity, Client};
use crate::backend::{Backend, Traffic};
use crate::connection::Connection;
use crate::device::Device;
use crate::filter;
use crate::fragment::{FirstFragment, Fragmented};
use crate::outcome::Outcome;
use crate::service::{AddressRow, Frontend, FrontendRow, ServiceLabel};
use crate::settings::Settings;
use crate::socket::{Dialled, Socket};
use crate::source_range::SourceRange;

/// The kernel's kinds of map that Weir uses.
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
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray,
    /// `BPF_MAP_TYPE_SK_STORAGE`: an entry per socket, which comes and goes with it; without capacity,
    /// and without a way to list its entries.
    SocketStorage,
}

/// What decides how many entries a map has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capacity {
    /// Always this many.
    Fixed(u32),
    /// [`Capacities::services`]
    Services,
    /// [`Capacities::frontends`]
    Frontends,
    /// [`Capacities::slots`]
    Slots,
    /// [`Capacities::backends`]
    Backends,
    /// [`Capacities::connections`]
    Connections,
    /// [`Capacities::half_open`]
    HalfOpen,
    /// [`Capacities::affinity`]
    Affinity,
}

/// Entries per map, per family where a map exists per family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacities {
    /// Service ports.
    pub services: u32,
    /// Frontends.
    pub frontends: u32,
    /// Slots of all pools together.
    pub slots: u32,
    /// Backends.
    pub backends: u32,
    /// Entries of `CONNECTIONS_*`: two per flow.
    pub connections: u32,
    /// Entries of `HALF_OPEN_*`: two per flow.
    pub half_open: u32,
    /// Clients remembered for session affinity.
    pub affinity: u32,
}

impl Capacities {
    /// How many entries `capacity` stands for.
    #[must_use]
    pub const fn entries(&self, capacity: Capacity) -> u32 {
        match capacity {
            Capacity::Fixed(entries) => entries,
            Capacity::Services => self.services,
            Capacity::Frontends => self.frontends,
            Capacity::Slots => self.slots,
            Capacity::Backends => self.backends,
            Capacity::Connections => self.connections,
            Capacity::HalfOpen => self.half_open,
            Capacity::Affinity => self.affinity,
        }
    }
}

/// One map: what it is called, what it holds.
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
    /// What decides its size.
    pub capacity: Capacity,
}

const fn map<K, V>(name: &'static str, kind: Kind, capacity: Capacity) -> Map {
    Map { name, kind, key_size: size_of::<K>() as u32, value_size: size_of::<V>() as u32, capacity }
}

/// Service id → [`ServiceLabel`]; read and written by user space alone.
pub const SERVICES: Map = map::<u32, ServiceLabel>("SERVICES", Kind::Hash, Capacity::Services);
/// [`Frontend`] → [`FrontendRow`], IPv4.
pub const FRONTENDS_V4: Map =
    map::<Frontend<V4>, FrontendRow>("FRONTENDS_V4", Kind::Hash, Capacity::Frontends);
/// [`Frontend`] → [`FrontendRow`], IPv6.
pub const FRONTENDS_V6: Map =
    map::<Frontend<V6>, FrontendRow>("FRONTENDS_V6", Kind::Hash, Capacity::Frontends);
/// Slot → backend id; one flat array from which pools are ranges.
pub const SLOTS: Map = map::<u32, u32>("SLOTS", Kind::Array, Capacity::Slots);
/// Backend id → [`Backend`], IPv4.
pub const BACKENDS_V4: Map =
    map::<u32, Backend<V4>>("BACKENDS_V4", Kind::Array, Capacity::Backends);
/// Backend id → [`Backend`], IPv6.
pub const BACKENDS_V6: Map =
    map::<u32, Backend<V6>>("BACKENDS_V6", Kind::Array, Capacity::Backends);
/// [`Tuple`] → [`Connection`] of established flows, IPv4.
pub const CONNECTIONS_V4: Map =
    map::<Tuple<V4>, Connection<V4>>("CONNECTIONS_V4", Kind::Hash, Capacity::Connections);
/// [`Tuple`] → [`Connection`] of established flows, IPv6.
pub const CONNECTIONS_V6: Map =
    map::<Tuple<V6>, Connection<V6>>("CONNECTIONS_V6", Kind::Hash, Capacity::Connections);
/// [`Tuple`] → [`Connection`] of flows not yet established, IPv4.
pub const HALF_OPEN_V4: Map =
    map::<Tuple<V4>, Connection<V4>>("HALF_OPEN_V4", Kind::LruHash, Capacity::HalfOpen);
/// [`Tuple`] → [`Connection`] of flows not yet established, IPv6.
pub const HALF_OPEN_V6: Map =
    map::<Tuple<V6>, Connection<V6>>("HALF_OPEN_V6", Kind::LruHash, Capacity::HalfOpen);
/// Address → [`AddressRow`], IPv4.
pub const ADDRESSES_V4: Map =
    map::<V4, AddressRow>("ADDRESSES_V4", Kind::Hash, Capacity::Frontends);
/// Address → [`AddressRow`], IPv6.
pub const ADDRESSES_V6: Map =
    map::<V6, AddressRow>("ADDRESSES_V6", Kind::Hash, Capacity::Frontends);
/// [`SourceRange`] → 1, IPv4. Its entries take memory only when they are there.
pub const RANGES_V4: Map =
    map::<SourceRange<V4>, u32>("RANGES_V4", Kind::LpmTrie, Capacity::Fixed(1 << 16));
/// [`SourceRange`] → 1, IPv6.
pub const RANGES_V6: Map =
    map::<SourceRange<V6>, u32>("RANGES_V6", Kind::LpmTrie, Capacity::Fixed(1 << 16));
/// [`Client`] → [`Affinity`], IPv4.
pub const AFFINITY_V4: Map =
    map::<Client<V4>, Affinity>("AFFINITY_V4", Kind::LruHash, Capacity::Affinity);
/// [`Client`] → [`Affinity`], IPv6.
pub const AFFINITY_V6: Map =
    map::<Client<V6>, Affinity>("AFFINITY_V6", Kind::LruHash, Capacity::Affinity);
/// [`Fragmented`] → [`FirstFragment`], IPv4.
pub const FRAGMENTS_V4: Map =
    map::<Fragmented<V4>, FirstFragment>("FRAGMENTS_V4", Kind::LruHash, Capacity::Fixed(8192));
/// [`Fragmented`] → [`FirstFragment`], IPv6.
pub const FRAGMENTS_V6: Map =
    map::<Fragmented<V6>, FirstFragment>("FRAGMENTS_V6", Kind::LruHash, Capacity::Fixed(8192));
/// Word → 64 bits of the [`filter`].
pub const FILTER: Map = map::<u32, u64>("FILTER", Kind::Array, Capacity::Fixed(filter::WORDS));
/// Interface index → [`Device`].
pub const DEVICES: Map = map::<u32, Device>("DEVICES", Kind::Hash, Capacity::Fixed(4096));
/// 0 → [`Settings`].
pub const SETTINGS: Map = map::<u32, Settings>("SETTINGS", Kind::Array, Capacity::Fixed(1));
/// [`Outcome`] → times, per CPU.
pub const OUTCOMES: Map =
    map::<u32, u64>("OUTCOMES", Kind::PerCpuArray, Capacity::Fixed(Outcome::COUNT));
/// Backend id → [`Traffic`], per CPU, IPv4.
pub const TRAFFIC_V4: Map =
    map::<u32, Traffic>("TRAFFIC_V4", Kind::PerCpuArray, Capacity::Backends);
/// Backend id → [`Traffic`], per CPU, IPv6.
pub const TRAFFIC_V6: Map =
    map::<u32, Traffic>("TRAFFIC_V6", Kind::PerCpuArray, Capacity::Backends);

/// Socket → [`Socket`], IPv4.
pub const SOCKETS_V4: Map =
    map::<u32, Socket<V4>>("SOCKETS_V4", Kind::SocketStorage, Capacity::Fixed(0));
/// Socket → [`Socket`], IPv6.
pub const SOCKETS_V6: Map =
    map::<u32, Socket<V6>>("SOCKETS_V6", Kind::SocketStorage, Capacity::Fixed(0));

/// Cookie of a UDP socket that is connected → [`Dialled`]. An entry outlives its socket until the room
/// is needed; the agent sees to it that those of living sockets stay.
pub const DIALLED: Map = map::<u64, Dialled>("DIALLED", Kind::LruHash, Capacity::Fixed(32_768));

/// Every map that is pinned: tables, and what is kept with sockets.
pub fn pinned() -> impl Iterator<Item = &'static Map> {
    ALL.iter().chain(OF_SOCKETS)
}

/// What is kept with sockets.
pub const OF_SOCKETS: &[Map] = &[SOCKETS_V4, SOCKETS_V6, DIALLED];

/// Every table that is pinned. The programs have a few more per CPU, caches of routes and room to work
/// in, which live and die with them.
pub const ALL: &[Map] = &[
    SERVICES,
    FRONTENDS_V4,
    FRONTENDS_V6,
    SLOTS,
    BACKENDS_V4,
    BACKENDS_V6,
    CONNECTIONS_V4,
    CONNECTIONS_V6,
    HALF_OPEN_V4,
    HALF_OPEN_V6,
    ADDRESSES_V4,
    ADDRESSES_V6,
    RANGES_V4,
    RANGES_V6,
    AFFINITY_V4,
    AFFINITY_V6,
    FRAGMENTS_V4,
    FRAGMENTS_V6,
    FILTER,
    DEVICES,
    SETTINGS,
    OUTCOMES,
    TRAFFIC_V4,
    TRAFFIC_V6,
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
