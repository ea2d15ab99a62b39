//! How many entries maps have.

use crate::conntrack::table::WAYS;

/// What determines the capacity of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capacity {
    /// A fixed number.
    Fixed(u32),
    /// [`Capacities::services`]
    Services,
    /// [`Capacities::frontends`]
    Frontends,
    /// [`Capacities::slots`]
    Slots,
    /// [`Capacities::backends`]
    Backends,
    /// Buckets for [`Capacities::conntrack`]
    ConntrackBuckets,
    /// Buckets for [`Capacities::half_open`]
    HalfOpenBuckets,
    /// [`Capacities::affinity`]
    Affinity,
}

impl Capacity {
    /// How many entries a map of so many `elements` can be counted on to hold.
    #[must_use]
    pub const fn usable(self, elements: u32) -> u32 {
        match self {
            Self::ConntrackBuckets => (elements as u64 * WAYS as u64 * 11 / 20) as u32,
            Self::HalfOpenBuckets => elements.saturating_mul(WAYS),
            Self::Fixed(_)
            | Self::Services
            | Self::Frontends
            | Self::Slots
            | Self::Backends
            | Self::Affinity => elements,
        }
    }
}

/// Entries per map, per family where a map exists per family.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Capacities {
    /// Service ports.
    pub services: u32,
    /// Frontends.
    pub frontends: u32,
    /// Slots of all pools together.
    pub slots: u32,
    /// Backends.
    pub backends: u32,
    /// Entries of `CONNTRACK_*`: two per flow.
    pub conntrack: u32,
    /// Entries of `HALF_OPEN_*`: two per flow.
    pub half_open: u32,
    /// Clients remembered for session affinity.
    pub affinity: u32,
    /// Possible processors of the node.
    pub processors: u32,
}

impl Capacities {
    /// Buckets of `CONNTRACK_*`: so many that of a million new entries at most one finds no place while the
    /// table has [`Capacities::conntrack`] (55 % of its places; a test of the table has the figures).
    #[must_use]
    pub const fn conntrack_buckets(&self) -> u32 {
        (self.conntrack as u64 * 20).div_ceil(11 * WAYS as u64) as u32
    }

    /// Buckets of `HALF_OPEN_*`, which evicts entries and may be full.
    #[must_use]
    pub const fn half_open_buckets(&self) -> u32 {
        self.half_open.div_ceil(WAYS)
    }

    /// The number of entries of an LRU map that is to hold so many. Before Linux 6.16 each processor takes
    /// [`LRU_RESERVED`] of them in advance; if no others were left, a new entry would evict another one at once.
    #[must_use]
    pub const fn lru_entries(&self, entries: u32) -> u32 {
        let reserved = self.processors.saturating_mul(LRU_RESERVED);
        let least = reserved.saturating_mul(2);
        if entries > least { entries } else { least }
    }

    pub(super) const fn entries_of(&self, capacity: Capacity) -> u32 {
        match capacity {
            Capacity::Fixed(entries) => entries,
            Capacity::Services => self.services,
            Capacity::Frontends => self.frontends,
            Capacity::Slots => self.slots,
            Capacity::Backends => self.backends,
            Capacity::ConntrackBuckets => self.conntrack_buckets(),
            Capacity::HalfOpenBuckets => self.half_open_buckets(),
            Capacity::Affinity => self.affinity,
        }
    }
}

/// Entries that a processor takes from an LRU map in advance (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c).
const LRU_RESERVED: u32 = 128;

#[cfg(test)]
mod tests {
    use super::super::{AFFINITY, FRONTENDS, PROGRAMS_LRU};
    use super::*;

    #[test]
    fn maps_that_evict_have_more_than_all_processors_take_in_advance() {
        for processors in [1, 2, 64, 512] {
            let few = Capacities {
                services: 1024,
                frontends: 1024,
                slots: 1024,
                backends: 1024,
                conntrack: 1024,
                half_open: 1024,
                affinity: 1024,
                processors,
            };
            let least = 2 * 128 * processors;
            assert_eq!(few.entries(&AFFINITY.v4), least.max(1024));
            assert_eq!(few.entries(&FRONTENDS.v4), 1024);
            for (name, entries, _) in PROGRAMS_LRU {
                assert_eq!(few.lru_entries(entries), least.max(entries), "{name}");
            }
        }
    }
}
