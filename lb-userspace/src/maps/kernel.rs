//! The pinned BPF maps: the store that the agent writes and `weir show` reads.

use std::collections::BTreeMap;

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
use super::conntrack_gc::Fill;
use super::contents::{Contents, FamilyContents};
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

/// The maps of one family.
struct FamilyTables<A> {
    frontends: Table<Frontend<A>, FrontendRow>,
    backends: Table<u32, Backend<A>>,
    ip_policies: Table<A, IpPolicy>,
    source_ranges: Table<SourceRange<A>, u32>,
    traffic: PerCpuTable<TRAFFIC_WORDS>,
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

    /// How full the maps are with `contents`.
    #[must_use]
    pub fn fill(&self, contents: &Contents) -> Vec<Fill> {
        let slots = contents.slots.values().map(|pool| pool.len()).sum();
        [
            (self.services.capacity(), contents.services.len()),
            (self.v4.frontends.capacity(), contents.v4.frontends.len()),
            (self.v6.frontends.capacity(), contents.v6.frontends.len()),
            (self.slots.capacity(), slots),
            (self.v4.backends.capacity(), contents.v4.backends.len()),
            (self.v6.backends.capacity(), contents.v6.backends.len()),
            (self.v4.ip_policies.capacity(), contents.v4.ip_policies.len()),
            (self.v6.ip_policies.capacity(), contents.v6.ip_policies.len()),
            (self.v4.source_ranges.capacity(), contents.v4.source_ranges.len()),
            (self.v6.source_ranges.capacity(), contents.v6.source_ranges.len()),
            (self.devices.capacity(), contents.devices.len()),
        ]
        .into_iter()
        .map(|((map, capacity), entries)| Fill {
            map,
            entries: entries as u64,
            capacity: capacity.into(),
        })
        .collect()
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
            let backends = slots.into_iter().map(BackendId).collect();
            contents.slots.insert(base, backends);
        }
        Ok(())
    }

    fn write_slots(&self, base: u32, backends: &[BackendId]) -> Result<(), MapError> {
        let indices: Vec<u32> = (base..).take(backends.len()).collect();
        self.slots.set_all(&indices, bytemuck::cast_slice(backends))
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
            Operation::Slots { base, backends } => self.write_slots(*base, backends),
            Operation::Filter { word, bits } => self.filter.set(*word, *bits),
            Operation::Device(index, device) => write(&self.devices, *index, *device),
            Operation::Settings(settings) => self.settings.set(0, *settings),
        }
    }
}

impl<A: Address> FamilyTables<A>
where
    Frontend<A>: Pod,
    Backend<A>: Pod,
    SourceRange<A>: Pod,
{
    fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            frontends: Table::open(pins, maps::FRONTENDS.of(A::FAMILY))?,
            backends: Table::open(pins, maps::BACKENDS.of(A::FAMILY))?,
            ip_policies: Table::open(pins, maps::IP_POLICY.of(A::FAMILY))?,
            source_ranges: Table::open(pins, maps::SRC_RANGES.of(A::FAMILY))?,
            traffic: PerCpuTable::open(pins, maps::TRAFFIC.of(A::FAMILY))?,
        })
    }

    fn apply(&mut self, operation: &FamilyOperation<A>) -> Result<(), MapError> {
        match operation {
            FamilyOperation::Frontend(frontend, row) => write(&self.frontends, *frontend, *row),
            FamilyOperation::Backend(id, row) => self.write_backend(*id, *row),
            FamilyOperation::IpPolicy(address, policy) => {
                write(&self.ip_policies, *address, *policy)
            }
            FamilyOperation::SourceRange(range, is_there) => {
                write(&self.source_ranges, *range, is_there.then_some(1))
            }
        }
    }

    fn read(&self) -> Result<FamilyContents<A>, MapError> {
        let backends = self.backends.entries()?.into_iter();
        Ok(FamilyContents {
            frontends: self.frontends.entries()?.into_iter().collect(),
            backends: backends
                .filter(|(_, row)| row.generation != 0)
                .map(|(id, row)| (BackendId(id), row))
                .collect(),
            ip_policies: self.ip_policies.entries()?.into_iter().collect(),
            source_ranges: self.source_ranges.entries()?.into_iter().map(|(key, _)| key).collect(),
        })
    }

    /// Writes a backend's row; a new one's counters start at zero.
    fn write_backend(&mut self, id: BackendId, row: Option<Backend<A>>) -> Result<(), MapError> {
        let row = row.unwrap_or(Zeroable::zeroed());
        let before = self.backends.get(&id.0)?;
        if before.is_none_or(|before| before.generation != row.generation) {
            self.traffic.clear(id.0)?;
        }
        self.backends.set(id.0, row)
    }
}

fn write<K: Pod, V: Pod>(table: &Table<K, V>, key: K, value: Option<V>) -> Result<(), MapError> {
    match value {
        Some(value) => table.set(key, value),
        None => table.remove(key),
    }
}

fn traffic(words: [u64; TRAFFIC_WORDS]) -> Traffic {
    cast(words)
}
