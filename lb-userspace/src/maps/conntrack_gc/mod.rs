//! Forgetting flows that are over. A flow has two entries, each of which is seen by one direction's
//! packets; it is over when both have been idle for longer than their state allows. Both then go,
//! the client's first: without it a new flow of the same client begins afresh, while without the
//! backend's the old one would go on and never be answered.

use std::collections::BTreeSet;
use std::mem;

use bytemuck::Pod;
use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::backend::BackendId;
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_common::maps;
use lb_ebpf::world::Table as Which;
use nix::time::{ClockId, clock_gettime};

use super::bpf_map::Table;
use super::{BackendSet, MapError};
use crate::pins::Pins;

/// What a sweep has found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sweep {
    /// The backends that entries refer to.
    pub referenced: BackendSet,
    /// Entries there were.
    pub entries: u64,
    /// Those of them that were half open.
    pub half_open: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// How full each table was.
    pub tables: Vec<Fill>,
}

/// How full a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Name of the map.
    pub map: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// One family's two connection tables, as a sweep needs them.
pub trait FlowTables<A: Address> {
    /// Hands every entry of a table to `see`, which may remove entries.
    ///
    /// # Errors
    /// The table could not be read, or what `see` answers.
    fn for_each(
        &self,
        table: Which,
        see: &mut dyn FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError>;
    /// The entry of `tuple`; looking does not count as use.
    ///
    /// # Errors
    /// The table could not be read.
    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<ConntrackEntry<A>>, MapError>;
    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The table could not be written.
    fn remove(&self, table: Which, tuple: &Tuple<A>) -> Result<(), MapError>;
}

/// Sees every entry of a family's tables once and removes the flows that are over at `now`.
/// Half-open entries come first: a flow that is established meanwhile is then seen in the other
/// table, and no backend that entries refer to is missed.
///
/// # Errors
/// A table could not be read or written; the sweep is then incomplete.
pub fn sweep<A: Address>(
    tables: &impl FlowTables<A>,
    now: Ticks,
    referenced: &mut BTreeSet<BackendId>,
    counts: &mut Sweep,
) -> Result<(), MapError> {
    for table in [Which::HalfOpen, Which::Established] {
        tables.for_each(table, &mut |tuple, entry| {
            counts.entries += 1;
            counts.half_open += u64::from(table == Which::HalfOpen);
            referenced.insert(entry.backend);
            if is_idle(&tuple, &entry, now) {
                counts.removed += forget(tables, table, &tuple, now)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether neither packets of this tuple have come nor its state lets it wait for them longer.
fn is_idle<A: Address>(tuple: &Tuple<A>, entry: &ConntrackEntry<A>, now: Ticks) -> bool {
    let timeout = entry.state.timeout_seconds(tuple.protocol);
    now.since(entry.last_seen) > Ticks::of_seconds(timeout)
}

/// Removes the flow of `tuple` if it is over; returns how many entries went. What was read in a
/// chunk may be a moment old, so the entry is looked at again.
fn forget<A: Address>(
    tables: &impl FlowTables<A>,
    table: Which,
    tuple: &Tuple<A>,
    now: Ticks,
) -> Result<u64, MapError> {
    let Some(entry) = tables.find(table, tuple)? else {
        return Ok(0);
    };
    if !is_idle(tuple, &entry, now) {
        return Ok(0);
    }
    let mut flow = vec![(table, *tuple)];
    if let Some((its_table, partner)) = partner(tables, table, tuple, &entry)? {
        let its_tuple = entry.other_key();
        if !is_idle(&its_tuple, &partner, now) {
            return Ok(0);
        }
        flow.push((its_table, its_tuple));
    }
    if entry.is_reply() {
        flow.reverse();
    }
    for (table, tuple) in &flow {
        tables.remove(*table, tuple)?;
    }
    Ok(flow.len() as u64)
}

/// The other entry of the flow of `tuple`: in the same table, or in the other one if the flow is
/// being moved. An entry under that tuple which does not name ours belongs to another flow.
fn partner<A: Address>(
    tables: &impl FlowTables<A>,
    table: Which,
    tuple: &Tuple<A>,
    entry: &ConntrackEntry<A>,
) -> Result<Option<(Which, ConntrackEntry<A>)>, MapError> {
    let other = match table {
        Which::Established => Which::HalfOpen,
        Which::HalfOpen => Which::Established,
    };
    for table in [table, other] {
        if let Some(found) = tables.find(table, &entry.other_key())?
            && found.other_key() == *tuple
        {
            return Ok(Some((table, found)));
        }
    }
    Ok(None)
}

/// The kernel's connection tables of both families.
#[derive(Debug)]
pub struct KernelFlows {
    v4: FamilyFlows<V4>,
    v6: FamilyFlows<V6>,
}

/// Those of one.
#[derive(Debug)]
pub struct FamilyFlows<A> {
    established: Table<Tuple<A>, ConntrackEntry<A>>,
    half_open: Table<Tuple<A>, ConntrackEntry<A>>,
}

impl KernelFlows {
    /// Opens the tables that an agent has made.
    ///
    /// # Errors
    /// One of them is not there, or is another version's.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            v4: FamilyFlows {
                established: Table::open(pins, &maps::CONNTRACK.v4)?,
                half_open: Table::open(pins, &maps::HALF_OPEN.v4)?,
            },
            v6: FamilyFlows {
                established: Table::open(pins, &maps::CONNTRACK.v6)?,
                half_open: Table::open(pins, &maps::HALF_OPEN.v6)?,
            },
        })
    }

    /// Those of IPv4.
    #[must_use]
    pub const fn v4(&self) -> &FamilyFlows<V4> {
        &self.v4
    }

    /// Those of IPv6.
    #[must_use]
    pub const fn v6(&self) -> &FamilyFlows<V6> {
        &self.v6
    }

    /// Sweeps both families at `now`.
    ///
    /// # Errors
    /// A table could not be read or written; the sweep is then incomplete and says nothing about
    /// backends.
    pub fn sweep(&self, now: Ticks) -> Result<Sweep, MapError> {
        let mut found = Sweep::default();
        let mut referenced = BackendSet::default();
        self.v4.sweep(now, &mut referenced.v4, &mut found)?;
        self.v6.sweep(now, &mut referenced.v6, &mut found)?;
        found.referenced = mem::take(&mut referenced);
        Ok(found)
    }
}

impl<A: Address> FamilyFlows<A>
where
    Tuple<A>: Pod,
    ConntrackEntry<A>: Pod,
{
    /// Sweeps this family, and says how full its tables were.
    fn sweep(
        &self,
        now: Ticks,
        referenced: &mut BTreeSet<BackendId>,
        found: &mut Sweep,
    ) -> Result<(), MapError> {
        let mut counts = Sweep::default();
        sweep(self, now, referenced, &mut counts)?;
        found.entries += counts.entries;
        found.half_open += counts.half_open;
        found.removed += counts.removed;
        for (table, entries) in [
            (&self.established, counts.entries - counts.half_open),
            (&self.half_open, counts.half_open),
        ] {
            let (map, capacity) = table.capacity();
            found.tables.push(Fill { map, entries, capacity: capacity.into() });
        }
        Ok(())
    }
}

impl<A: Address> FamilyFlows<A> {
    const fn table(&self, table: Which) -> &Table<Tuple<A>, ConntrackEntry<A>> {
        match table {
            Which::Established => &self.established,
            Which::HalfOpen => &self.half_open,
        }
    }
}

impl<A: Address> FlowTables<A> for FamilyFlows<A>
where
    Tuple<A>: Pod,
    ConntrackEntry<A>: Pod,
{
    fn for_each(
        &self,
        table: Which,
        see: &mut dyn FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        self.table(table).for_each(see)
    }

    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<ConntrackEntry<A>>, MapError> {
        self.table(table).get(tuple)
    }

    fn remove(&self, table: Which, tuple: &Tuple<A>) -> Result<(), MapError> {
        self.table(table).remove(*tuple)
    }
}

/// The time, by the clock that connections are stamped with (`CLOCK_MONOTONIC`).
///
/// # Panics
/// Never: every Linux has that clock.
#[must_use]
pub fn now() -> Ticks {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has a monotonic clock");
    let seconds = time.tv_sec().unsigned_abs();
    let nanoseconds = time.tv_nsec().unsigned_abs();
    Ticks::from_nanoseconds(seconds * 1_000_000_000 + nanoseconds)
}

#[cfg(test)]
mod tests;
