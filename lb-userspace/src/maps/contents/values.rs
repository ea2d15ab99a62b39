//! All entries of all maps that the agent writes, as one value that is compared with `==`. `Display` is
//! the text form that tests compare and `weir show maps` prints.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{Address, Family, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::device::Device;
use lb_common::filter::{self, Position};
use lb_common::maps::{self, Map};
use lb_common::service::{Frontend, FrontendRow, IpPolicy, Pool, ServiceId, ServiceLabel};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use super::filter::FilterBits;
use super::pool_slots::PoolSlots;
use super::references::{BackendSet, References};
use crate::maps::catalogue::with_family_maps;
use crate::maps::operation::{FamilyOperation, Operation};

/// What the maps hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// `SERVICES`
    pub services: BTreeMap<ServiceId, ServiceLabel>,
    /// The maps of IPv4.
    pub v4: FamilyContents<V4>,
    /// The maps of IPv6.
    pub v6: FamilyContents<V6>,
    /// `SLOTS`: each pool's slots by the index of its first. Free ranges are not listed,
    /// whatever the array holds there. Both families share the array.
    pub slots: BTreeMap<u32, PoolSlots>,
    /// `FILTER`: the words that are not zero.
    pub filter: BTreeMap<u32, u64>,
    /// `DEVICES`
    pub devices: BTreeMap<u32, Device>,
    /// `SETTINGS`
    pub settings: Settings,
}

macro_rules! declare_contents {
    ($($(#[$doc:meta])* $operation:ident, $field:ident: $key:ty => $value:ty, $map:ident;)+) => {
        /// What the maps of one address family hold.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct FamilyContents<A> {
            $($(#[$doc])* pub $field: BTreeMap<$key, $value>,)+
        }

        impl<A> Default for FamilyContents<A> {
            fn default() -> Self {
                Self { $($field: BTreeMap::new(),)+ }
            }
        }

        impl<A: Address> FamilyContents<A> {
            fn apply(&mut self, operation: &FamilyOperation<A>) {
                match operation {
                    $(FamilyOperation::$operation(key, value) => {
                        set(&mut self.$field, *key, *value);
                    })+
                }
            }

            /// Gives back what trees that have grown entry by entry leave unused.
            fn compact(&mut self) {
                $(compact(&mut self.$field);)+
            }

            /// The number of entries of each of its maps.
            pub fn lengths(&self) -> impl Iterator<Item = (&'static Map, usize)> + use<A> {
                [$((maps::$map.of(A::FAMILY), self.$field.len()),)+].into_iter()
            }
        }
    };
}

with_family_maps!(declare_contents);

impl Contents {
    /// The Service port of a backend; Service port 0, which has no name, if there is no such backend.
    #[must_use]
    pub fn service_of(&self, family: Family, backend: BackendId) -> ServiceId {
        let service = match family {
            Family::V4 => self.v4.backends.get(&backend).map(|row| row.service),
            Family::V6 => self.v6.backends.get(&backend).map(|row| row.service),
        };
        service.unwrap_or(ServiceId(0))
    }

    /// How many rows these are, a pool counted as one.
    #[must_use]
    pub fn rows(&self) -> usize {
        let lengths = self.v4.lengths().chain(self.v6.lengths()).map(|(_, length)| length);
        lengths.sum::<usize>() + self.services.len() + self.slots.len() + self.devices.len()
    }

    /// Applies an operation.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Service(id, label) => {
                set(&mut self.services, *id, label.as_deref().copied())
            }
            Operation::V4(operation) => self.v4.apply(operation),
            Operation::V6(operation) => self.v6.apply(operation),
            Operation::Slots { base, slots } => set(&mut self.slots, *base, slots.clone()),
            Operation::Filter { word, bits } => {
                set(&mut self.filter, *word, (*bits != 0).then_some(*bits));
            }
            Operation::Device(index, device) => set(&mut self.devices, *index, *device),
            Operation::Settings(settings) => self.settings = *settings,
        }
    }

    /// Gives back what trees that have grown entry by entry leave unused, which is nearly half of them.
    pub fn compact(&mut self) {
        compact(&mut self.services);
        compact(&mut self.slots);
        self.v4.compact();
        self.v6.compact();
    }

    /// Retired backends: they serve no endpoint and are in no slot, and are kept for the conntrack entries
    /// that may still refer to them.
    ///
    /// The row with the highest generation is never among them: the next row's generation is counted
    /// from it. So a generation is never reused, and an id with a generation always is
    /// the same backend.
    #[must_use]
    pub fn retired(&self) -> BackendSet {
        BackendSet { v4: self.v4.retired(&self.slots), v6: self.v6.retired(&self.slots) }
    }

    /// The filter's bits that frontends and backends need.
    #[must_use]
    pub fn needed_filter(&self) -> FilterBits {
        let mut needed = FilterBits::default();
        self.v4.positions().chain(self.v6.positions()).for_each(|position| needed.add(position));
        needed
    }

    /// What is kept for conntrack entries alone: retired backends, and the filter's bits that no frontend
    /// or backend needs.
    #[must_use]
    pub fn kept_for_flows(&self) -> References {
        let filter = FilterBits::of_words(&self.filter).without(&self.needed_filter());
        References { backends: self.retired(), filter }
    }
}

/// The nodes of a tree that is made at once are full.
fn compact<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl<A: Address> FamilyContents<A> {
    /// The Service port of every row.
    pub fn services(&self) -> impl Iterator<Item = ServiceId> {
        let of_frontends = self.frontends.values().map(|row| row.service);
        let of_backends = self.backends.values().map(|row| row.service);
        let of_ranges = self.source_ranges.keys().map(|range| range.service);
        let of_ports = of_ranges.filter(|service| *service != SourceRange::<A>::CLUSTER);
        of_frontends.chain(of_backends).chain(of_ports)
    }

    /// Where the filter has bits of the frontends and backends.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let frontends = self.frontends.keys();
        let frontends = frontends.map(|f| filter::frontend(&f.address, f.port, f.protocol));
        let backends = self.backends.values();
        frontends.chain(backends.map(|b| filter::backend(&b.address, b.port, b.protocol)))
    }

    /// The pools of this family's frontends, with the Service port of each.
    pub fn pools(&self) -> impl Iterator<Item = (ServiceId, Pool)> {
        self.frontends.values().flat_map(|row| {
            let named = row.pools.iter().filter(|pool| pool.length > 0);
            named.map(|pool| (row.service, *pool))
        })
    }

    fn retired(&self, slots: &BTreeMap<u32, PoolSlots>) -> BTreeSet<BackendId> {
        let idle = self.backends.iter().filter(|(_, row)| !row.is_serving());
        let mut retired: BTreeSet<BackendId> = idle.map(|(id, _)| *id).collect();
        let highest = self.backends.iter().max_by_key(|(_, row)| row.generation);
        highest.map(|(id, _)| retired.remove(id));
        if retired.is_empty() {
            return retired;
        }
        let bases: BTreeSet<u32> = self.pools().map(|(_, pool)| pool.base).collect();
        for id in bases.iter().filter_map(|base| slots.get(base)).flat_map(PoolSlots::backends) {
            retired.remove(&id);
        }
        retired
    }
}

impl Default for Contents {
    /// Empty maps.
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            v4: FamilyContents::default(),
            v6: FamilyContents::default(),
            slots: BTreeMap::new(),
            filter: BTreeMap::new(),
            devices: BTreeMap::new(),
            settings: bytemuck::Zeroable::zeroed(),
        }
    }
}
