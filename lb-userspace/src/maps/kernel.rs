//! The pinned BPF maps: the store that the agent writes and `weir show` reads.

mod family;
mod mapped;

use std::collections::BTreeMap;
use std::{io, iter};

use bytemuck::{Zeroable, cast};
use lb_common::address::{V4, V6};
use lb_common::backend::{BackendId, Traffic};
use lb_common::device::Device;
use lb_common::maps;
use lb_common::outcome::Outcome;
use lb_common::service::{ServiceId, ServiceLabel};
use lb_common::settings::Settings;

use self::family::{FamilyTables, TRAFFIC_WORDS, single, write, write_all};
use self::mapped::MappedTable;
use super::bpf_map::{CHUNK, PerCpuTable, Table};
use super::conntrack_gc::Fill;
use super::contents::{Contents, PoolSlots};
use super::error::MapError;
use super::operation::Operation;
use super::store::MapStore;
use crate::pins::Pins;

/// The kernel's maps.
pub struct KernelStore {
    services: Table<u32, ServiceLabel>,
    v4: FamilyTables<V4>,
    v6: FamilyTables<V6>,
    slots: MappedTable<u32>,
    filter: MappedTable<u64>,
    devices: Table<u32, Device>,
    settings: Table<u32, Settings>,
    outcomes: PerCpuTable<1>,
}

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
            slots: MappedTable::open(pins, &maps::SLOTS)?,
            filter: MappedTable::open(pins, &maps::FILTER)?,
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

    /// The traffic of the IPv4 backends with an id below `end`.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn traffic_of_v4(&self, end: BackendId) -> Result<Vec<Traffic>, MapError> {
        Ok(self.v4.traffic.sums(end.0)?.into_iter().map(traffic).collect())
    }

    /// The traffic of the IPv6 backends with an id below `end`.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn traffic_of_v6(&self, end: BackendId) -> Result<Vec<Traffic>, MapError> {
        Ok(self.v6.traffic.sums(end.0)?.into_iter().map(traffic).collect())
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

    /// How full the maps are with `contents`, of which the slots are not needed.
    #[must_use]
    pub fn fill(&self, contents: &Contents) -> Vec<Fill> {
        let slots = slot_ranges(contents).values().map(|length| *length as usize).sum();
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

    /// All contents but the slots and the filter, which are many.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn read_rows(&self) -> Result<Contents, MapError> {
        let mut contents = Contents {
            v4: self.v4.read()?,
            v6: self.v6.read()?,
            settings: self.settings.get(&0)?.unwrap_or(Zeroable::zeroed()),
            ..Contents::default()
        };
        let services = self.services.entries()?.into_iter();
        contents.services = services.map(|(id, label)| (ServiceId(id), label)).collect();
        contents.devices = self.devices.entries()?.into_iter().collect();
        Ok(contents)
    }

    /// The slots of every pool that a frontend refers to.
    fn read_slots(&self, contents: &mut Contents) -> Result<(), MapError> {
        for (base, length) in slot_ranges(contents) {
            let slots = self.slots.range(base, length)?;
            let ids: Vec<BackendId> = slots.into_iter().map(BackendId).collect();
            contents.slots.insert(base, PoolSlots::of(ids));
        }
        Ok(())
    }

    /// Writes a pool. No frontend refers to it yet.
    fn write_slots(&self, base: u32, slots: &PoolSlots) -> Result<(), MapError> {
        let Some(ids) = slots.ids() else {
            let forgotten = io::Error::other("what these slots hold is forgotten: report this");
            return Err(MapError::new(&maps::SLOTS, "write", forgotten));
        };
        self.slots.write(base, ids.iter().map(|id| id.0))
    }
}

/// Where pools begin that a frontend refers to, each with its length.
fn slot_ranges(contents: &Contents) -> BTreeMap<u32, u32> {
    let (v4, v6) = (&contents.v4.frontends, &contents.v6.frontends);
    let mut ranges: BTreeMap<u32, u32> = BTreeMap::new();
    for pool in v4.values().chain(v6.values()).flat_map(|row| row.pools) {
        if pool.length > 0 {
            let length = ranges.entry(pool.base).or_default();
            *length = pool.length.max(*length);
        }
    }
    ranges
}

impl MapStore for KernelStore {
    fn read(&self) -> Result<Contents, MapError> {
        let mut contents = self.read_rows()?;
        let (_, words) = self.filter.capacity();
        let filter = (0..).zip(self.filter.range(0, words)?);
        contents.filter = filter.filter(|(_, bits)| *bits != 0).collect();
        self.read_slots(&mut contents)?;
        Ok(contents)
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), MapError> {
        match operation {
            Operation::Service(id, label) => write(&self.services, id.0, label.as_deref().copied()),
            Operation::V4(operation) => self.v4.apply(operation),
            Operation::V6(operation) => self.v6.apply(operation),
            Operation::Slots { base, slots: Some(slots) } => self.write_slots(*base, slots),
            Operation::Slots { slots: None, .. } => Ok(()),
            Operation::Filter { word, bits } => self.filter.write(*word, iter::once(*bits)),
            Operation::Device(index, device) => write(&self.devices, *index, *device),
            Operation::Settings(settings) => self.settings.set(0, *settings),
        }
    }

    fn apply_first(&mut self, operations: &[Operation]) -> (usize, Result<(), MapError>) {
        let Some(first) = operations.first() else { return (0, Ok(())) };
        macro_rules! run {
            ($pattern:pat => $row:expr) => {
                operations
                    .iter()
                    .map_while(|one| if let $pattern = one { Some($row) } else { None })
            };
        }
        match first {
            Operation::V4(one) => self.v4.apply_first(one, run!(Operation::V4(one) => one)),
            Operation::V6(one) => self.v6.apply_first(one, run!(Operation::V6(one) => one)),
            Operation::Service(_, Some(_)) => {
                let rows = run!(Operation::Service(id, Some(label)) => (id.0, **label));
                write_all(&self.services, rows.take(CHUNK))
            }
            Operation::Service(_, None)
            | Operation::Slots { .. }
            | Operation::Filter { .. }
            | Operation::Device(..)
            | Operation::Settings(_) => single(self.apply(first)),
        }
    }
}

fn traffic(words: [u64; TRAFFIC_WORDS]) -> Traffic {
    cast(words)
}
