//! The pinned BPF maps: the store that the agent writes and `weir show` reads.

use std::collections::BTreeMap;
use std::io;

use bytemuck::{Pod, Zeroable, cast};
use lb_common::address::{Address, V4, V6};
use lb_common::backend::{Backend, BackendId, Traffic};
use lb_common::device::Device;
use lb_common::maps;
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, FrontendRow, IpPolicy, ServiceId, ServiceLabel};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use super::bpf_map::{PerCpuTable, Table};
use super::catalogue::with_family_maps;
use super::conntrack_gc::Fill;
use super::contents::{Contents, FamilyContents, PoolSlots};
use super::error::MapError;
use super::operation::{FamilyOperation, Operation};
use super::store::MapStore;
use crate::pins::Pins;

/// `u64`s in a row of `TRAFFIC_*`.
const TRAFFIC_WORDS: usize = size_of::<Traffic>() / size_of::<u64>();

/// The kernel's maps.
pub struct KernelStore {
    services: Table<u32, ServiceLabel>,
    v4: FamilyTables<V4>,
    v6: FamilyTables<V6>,
    slots: Table<u32, u32>,
    filter: Table<u32, u64>,
    devices: Table<u32, Device>,
    settings: Table<u32, Settings>,
    outcomes: PerCpuTable<1>,
}

/// A row that says whether it is in use: an array has a value under every index.
trait Row: Pod {
    fn is_in_use(&self) -> bool {
        true
    }
}

impl Row for FrontendRow {}
impl Row for IpPolicy {}
impl Row for u32 {}
impl<A: Address> Row for Backend<A>
where
    Self: Pod,
{
    fn is_in_use(&self) -> bool {
        self.generation != 0
    }
}

macro_rules! declare_tables {
    ($($(#[$doc:meta])* $operation:ident, $field:ident: $key:ty => $value:ty, $map:ident;)+) => {
        /// The maps of one family.
        struct FamilyTables<A> {
            $($field: Table<$key, $value>,)+
            traffic: PerCpuTable<TRAFFIC_WORDS>,
        }

        impl<A: Address> FamilyTables<A>
        where
            $($key: Pod + Ord, $value: Row,)+
        {
            fn open(pins: &Pins) -> Result<Self, MapError> {
                Ok(Self {
                    $($field: Table::open(pins, maps::$map.of(A::FAMILY))?,)+
                    traffic: PerCpuTable::open(pins, maps::TRAFFIC.of(A::FAMILY))?,
                })
            }

            fn read(&self) -> Result<FamilyContents<A>, MapError> {
                Ok(FamilyContents { $($field: read(&self.$field)?,)+ })
            }

            fn apply(&mut self, operation: &FamilyOperation<A>) -> Result<(), MapError> {
                if let FamilyOperation::Backend(id, row) = operation {
                    self.clear_traffic(*id, *row)?;
                }
                match operation {
                    $(FamilyOperation::$operation(key, value) => write(&self.$field, *key, *value),)+
                }
            }

            /// The capacity of each map.
            fn capacities(&self) -> impl Iterator<Item = (&'static str, u32)> + use<A> {
                [$(self.$field.capacity(),)+].into_iter()
            }
        }
    };
}

with_family_maps!(declare_tables);

impl KernelStore {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// One of them is missing, or of another version.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            services: Table::open(pins, &maps::SERVICES)?,
            v4: FamilyTables::open(pins)?,
            v6: FamilyTables::open(pins)?,
            slots: Table::open(pins, &maps::SLOTS)?,
            filter: Table::open(pins, &maps::FILTER)?,
            devices: Table::open(pins, &maps::DEVICES)?,
            settings: Table::open(pins, &maps::SETTINGS)?,
            outcomes: PerCpuTable::open(pins, &maps::OUTCOMES)?,
        })
    }

    /// The number of packets with this outcome.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn outcomes(&self, outcome: Outcome) -> Result<u64, MapError> {
        self.outcomes.sum(outcome as u32).map(|[packets]| packets)
    }

    /// The traffic of an IPv4 backend.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn traffic_v4(&self, backend: BackendId) -> Result<Traffic, MapError> {
        self.v4.traffic.sum(backend.0).map(traffic)
    }

    /// The traffic of an IPv6 backend.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn traffic_v6(&self, backend: BackendId) -> Result<Traffic, MapError> {
        self.v6.traffic.sum(backend.0).map(traffic)
    }

    /// Copies what is counted for each backend in `contents` to the maps of `to`.
    ///
    /// # Errors
    /// A map could not be read or written.
    pub fn copy_traffic(&self, contents: &Contents, to: &mut Self) -> Result<(), MapError> {
        let (v4, v6) = (&contents.v4.backends, &contents.v6.backends);
        v4.keys().try_for_each(|id| self.v4.traffic.copy(id.0, &mut to.v4.traffic))?;
        v6.keys().try_for_each(|id| self.v6.traffic.copy(id.0, &mut to.v6.traffic))
    }

    /// How full the maps are with `contents`.
    #[must_use]
    pub fn fill(&self, contents: &Contents) -> Vec<Fill> {
        let slots = contents.slots.values().map(|slots| slots.len() as usize).sum();
        let fill = |((map, capacity), entries): ((&'static str, u32), usize)| Fill {
            map,
            entries: entries as u64,
            capacity: capacity.into(),
        };
        let lengths = contents.v4.lengths().chain(contents.v6.lengths()).map(|(_, length)| length);
        let of_families = self.v4.capacities().chain(self.v6.capacities()).zip(lengths);
        let others = [
            (self.services.capacity(), contents.services.len()),
            (self.slots.capacity(), slots),
            (self.devices.capacity(), contents.devices.len()),
        ];
        others.into_iter().chain(of_families).map(fill).collect()
    }

    /// The slots of every pool that a frontend refers to.
    fn read_slots(&self, contents: &mut Contents) -> Result<(), MapError> {
        let (v4, v6) = (&contents.v4.frontends, &contents.v6.frontends);
        let mut ranges: BTreeMap<u32, u32> = BTreeMap::new();
        for pool in v4.values().chain(v6.values()).flat_map(|row| row.pools) {
            if pool.length > 0 {
                let length = ranges.entry(pool.base).or_default();
                *length = pool.length.max(*length);
            }
        }
        for (base, length) in ranges {
            let slots = self.slots.range(base, length)?;
            let ids: Vec<BackendId> = slots.into_iter().map(BackendId).collect();
            contents.slots.insert(base, PoolSlots::of(ids));
        }
        Ok(())
    }

    fn write_slots(&self, base: u32, slots: &PoolSlots) -> Result<(), MapError> {
        let Some(ids) = slots.ids() else {
            let forgotten = io::Error::other("what these slots hold is forgotten: report this");
            return Err(MapError::new(&maps::SLOTS, "write", forgotten));
        };
        let indices: Vec<u32> = (base..).take(ids.len()).collect();
        self.slots.set_all(&indices, bytemuck::cast_slice(ids))
    }
}

impl MapStore for KernelStore {
    fn read(&self) -> Result<Contents, MapError> {
        let mut contents = Contents {
            v4: self.v4.read()?,
            v6: self.v6.read()?,
            settings: self.settings.get(&0)?.unwrap_or(Zeroable::zeroed()),
            ..Contents::default()
        };
        let services = self.services.entries()?.into_iter();
        contents.services = services.map(|(id, label)| (ServiceId(id), label)).collect();
        let filter = self.filter.entries()?.into_iter();
        contents.filter = filter.filter(|(_, bits)| *bits != 0).collect();
        contents.devices = self.devices.entries()?.into_iter().collect();
        self.read_slots(&mut contents)?;
        Ok(contents)
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), MapError> {
        match operation {
            Operation::Service(id, label) => write(&self.services, id.0, *label),
            Operation::V4(operation) => self.v4.apply(operation),
            Operation::V6(operation) => self.v6.apply(operation),
            Operation::Slots { base, slots: Some(slots) } => self.write_slots(*base, slots),
            Operation::Slots { slots: None, .. } => Ok(()),
            Operation::Filter { word, bits } => self.filter.set(*word, *bits),
            Operation::Device(index, device) => write(&self.devices, *index, *device),
            Operation::Settings(settings) => self.settings.set(0, *settings),
        }
    }
}

impl<A: Address> FamilyTables<A>
where
    Backend<A>: Pod,
{
    /// Sets the counters of a backend that is new under this id to zero.
    fn clear_traffic(&mut self, id: BackendId, row: Option<Backend<A>>) -> Result<(), MapError> {
        let generation = row.map_or(0, |row| row.generation);
        let before = self.backends.get(&id)?;
        if before.is_none_or(|before| before.generation != generation) {
            self.traffic.clear(id.0)?;
        }
        Ok(())
    }
}

fn read<K: Pod + Ord, V: Row>(table: &Table<K, V>) -> Result<BTreeMap<K, V>, MapError> {
    Ok(table.entries()?.into_iter().filter(|(_, row)| row.is_in_use()).collect())
}

fn write<K: Pod, V: Pod>(table: &Table<K, V>, key: K, value: Option<V>) -> Result<(), MapError> {
    match value {
        Some(value) => table.set(key, value),
        None if table.is_array() => table.set(key, V::zeroed()),
        None => table.remove(key),
    }
}

fn traffic(words: [u64; TRAFFIC_WORDS]) -> Traffic {
    cast(words)
}
