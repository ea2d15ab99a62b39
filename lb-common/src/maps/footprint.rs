//! What memory maps take, as the kernel counts it (`map_mem_usage` of kernel/bpf/hashtab.c and arraymap.c).

use super::{Capacities, IP_POLICY, Kind, Map, PROGRAMS_LRU, pinned};

/// Bytes of memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Memory {
    /// All that maps take.
    pub total: u64,
    /// What of it is there once for each possible processor.
    pub per_cpu: u64,
}

/// Bytes of an element of a hash table beside its key and value (`struct htab_elem`).
const ELEMENT: u64 = 48;
/// Bytes of a bucket of a hash table, of which it has a power of two.
const BUCKET: u64 = 16;
/// Bytes per processor of the maps that are not pinned: the FIB cache and scratch space.
const PROGRAMS_PER_CPU: u64 = 552 << 10;

impl Capacities {
    /// The memory of all maps that hold so many entries, as they are made. Entries that take memory only while
    /// they exist, those of sockets, source ranges and address policies, come on top.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let processors = u64::from(self.processors);
        let own = Memory { total: 0, per_cpu: processors * PROGRAMS_PER_CPU };
        let lru = PROGRAMS_LRU.iter().map(|(_, entries, bytes)| {
            let entries = u64::from(self.lru_entries(*entries));
            Memory { total: hash(entries, u64::from(*bytes)), per_cpu: 0 }
        });
        let maps = pinned().map(|map| self.memory_of(map));
        let sum = maps.chain(lru).chain([own]).fold(Memory::default(), |sum, one| Memory {
            total: sum.total + one.total,
            per_cpu: sum.per_cpu + one.per_cpu,
        });
        Memory { total: sum.total + sum.per_cpu, ..sum }
    }

    /// The memory of `map`: that which is per processor is not part of the rest.
    fn memory_of(&self, map: &Map) -> Memory {
        let entries = u64::from(self.entries(map));
        let [key, value] = [map.key_size, map.value_size].map(aligned);
        let total = match map.kind {
            Kind::Hash if [IP_POLICY.v4, IP_POLICY.v6].contains(map) => {
                hash(entries, 0) - entries * ELEMENT
            }
            Kind::Hash | Kind::LruHash => hash(entries, key + value),
            Kind::Array | Kind::MappedArray => entries * value,
            // A pointer each.
            Kind::PerCpuArray => entries * 8,
            Kind::ProgramArray => entries * 8,
            Kind::LpmTrie | Kind::SocketStorage => 0,
        };
        let per_cpu = match map.kind {
            Kind::PerCpuArray => entries * value * u64::from(self.processors),
            Kind::Hash
            | Kind::LruHash
            | Kind::LpmTrie
            | Kind::Array
            | Kind::MappedArray
            | Kind::SocketStorage
            | Kind::ProgramArray => 0,
        };
        Memory { total, per_cpu }
    }
}

/// A hash table of so many elements, each with so many bytes of key and value.
const fn hash(entries: u64, bytes: u64) -> u64 {
    entries * (ELEMENT + bytes) + entries.next_power_of_two() * BUCKET
}

/// Keys and values are in units of eight bytes.
fn aligned(bytes: u32) -> u64 {
    u64::from(bytes.next_multiple_of(8))
}
