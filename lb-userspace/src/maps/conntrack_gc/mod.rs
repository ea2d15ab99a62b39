//! Garbage collection of conntrack entries. A flow has two entries, one per direction. It is expired when
//! both have been idle for longer than the timeout of their state; then both are removed, the original
//! direction's first. Without that entry the client's next packet begins a new flow; without only the
//! reply's, the old flow would continue and its replies would not be translated.

mod port_hints;
mod run;

use std::collections::BTreeSet;
use std::mem;

use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::backend::BackendId;
use lb_common::conntrack::table::{Removed, Stored};
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_common::maps;
use lb_common::snat::{PortHints, Rows};
use lb_ebpf::world::Table as Which;
use nix::time::{ClockId, clock_gettime};

use self::port_hints::PortsInUse;
pub use self::run::{Fill, GcRun};
use super::bpf_map::Table;
use super::flow_table::FlowTable;
use super::{BackendSet, MapError};
use crate::pins::Pins;

/// One family's two conntrack tables, as garbage collection needs them.
pub trait FlowTables<A: Address> {
    /// Calls `visit` with every entry of a table; it may remove entries.
    ///
    /// # Errors
    /// The table could not be read, or the error of `visit`.
    fn for_each(
        &self,
        table: Which,
        visit: &mut dyn FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError>;
    /// The entry of `tuple`; a look-up does not refresh it.
    ///
    /// # Errors
    /// The table could not be read.
    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<ConntrackEntry<A>>, MapError>;
    /// Removes the entry of `tuple` if it is still as `read` has it. Returns whether it is gone.
    ///
    /// # Errors
    /// The table could not be written.
    fn remove(
        &self,
        table: Which,
        tuple: &Tuple<A>,
        read: &ConntrackEntry<A>,
    ) -> Result<bool, MapError>;
}

/// Reads every entry of a family's tables once and removes the flows that are expired at `now`. The
/// half-open table comes first: a flow that becomes established meanwhile is then found in the other
/// one, and no referenced backend is missed.
///
/// # Errors
/// A table could not be read or written; the run is then incomplete.
pub fn collect<A: Address>(
    tables: &impl FlowTables<A>,
    now: Ticks,
    referenced: &mut BTreeSet<BackendId>,
    ports: &mut PortsInUse,
    run: &mut GcRun,
) -> Result<(), MapError> {
    for table in [Which::HalfOpen, Which::Established] {
        tables.for_each(table, &mut |tuple, entry| {
            run.entries += 1;
            run.half_open += u64::from(table == Which::HalfOpen);
            referenced.insert(entry.backend);
            let mut removed = 0;
            if is_idle(&tuple, &entry, now) {
                removed = remove_expired(tables, table, &tuple, now)?;
            }
            run.removed += removed;
            if removed == 0 {
                ports.note(&tuple, &entry);
                run.referenced.filter.add_flow(&tuple, &entry);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Whether no packet of this tuple was seen for longer than the timeout of its state.
fn is_idle<A: Address>(tuple: &Tuple<A>, entry: &ConntrackEntry<A>, now: Ticks) -> bool {
    let timeout = entry.state.timeout_seconds(tuple.protocol);
    now.since(entry.last_seen) > Ticks::of_seconds(timeout)
}

/// Removes the flow of `tuple` if it is expired; returns the number of removed entries. An entry that a packet
/// comes to meanwhile stays, and with it the other one.
fn remove_expired<A: Address>(
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
    let mut flow = vec![(table, *tuple, entry)];
    if let Some((other_table, other)) = other_entry(tables, table, tuple, &entry)? {
        let other_tuple = entry.other_key();
        if !is_idle(&other_tuple, &other, now) {
            return Ok(0);
        }
        flow.push((other_table, other_tuple, other));
    }
    if entry.is_reply() {
        flow.reverse();
    }
    let mut removed = 0;
    for (table, tuple, read) in &flow {
        if !tables.remove(*table, tuple, read)? {
            break;
        }
        removed += 1;
    }
    Ok(removed)
}

/// The entry of the other direction: in the same table, or in the other one if the flow is being moved.
/// An entry under that tuple that does not refer to this one belongs to another flow.
fn other_entry<A: Address>(
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

/// The kernel's conntrack tables of both families.
#[derive(Debug)]
pub struct KernelFlows {
    v4: FamilyFlows<V4>,
    v6: FamilyFlows<V6>,
    port_hints: Table<u32, PortHints>,
    full_rows: Table<u32, Rows>,
}

/// The kernel's conntrack tables of one family.
#[derive(Debug)]
pub struct FamilyFlows<A> {
    established: FlowTable<A>,
    half_open: FlowTable<A>,
}

impl KernelFlows {
    /// Opens the pinned tables.
    ///
    /// # Errors
    /// One of them is missing, or of another version.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            v4: FamilyFlows::open(pins)?,
            v6: FamilyFlows::open(pins)?,
            port_hints: Table::open(pins, &maps::PORT_HINTS)?,
            full_rows: Table::open(pins, &maps::FULL_ROWS)?,
        })
    }

    /// The tables of IPv4.
    #[must_use]
    pub const fn v4(&self) -> &FamilyFlows<V4> {
        &self.v4
    }

    /// The tables of IPv6.
    #[must_use]
    pub const fn v6(&self) -> &FamilyFlows<V6> {
        &self.v6
    }

    /// Collects garbage of both families at `now`.
    ///
    /// # Errors
    /// A table could not be read or written; the run is then incomplete, and what no entry refers to
    /// is not known.
    pub fn collect(&self, now: Ticks) -> Result<GcRun, MapError> {
        let mut run = GcRun::default();
        let mut referenced = BackendSet::default();
        let mut ports = PortsInUse::before(&self.port_hints)?;
        self.v4.collect(now, &mut referenced.v4, &mut ports, &mut run)?;
        self.v6.collect(now, &mut referenced.v6, &mut ports, &mut run)?;
        run.busiest_backend = ports.busiest();
        ports.write(&self.port_hints, &self.full_rows)?;
        run.referenced.backends = referenced;
        Ok(run)
    }
}

impl<A: Stored> FamilyFlows<A> {
    fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            established: FlowTable::open(pins, maps::CONNTRACK.of(A::FAMILY))?,
            half_open: FlowTable::open(pins, maps::HALF_OPEN.of(A::FAMILY))?,
        })
    }

    /// Collects garbage of this family, and adds how full its tables were.
    fn collect(
        &self,
        now: Ticks,
        referenced: &mut BTreeSet<BackendId>,
        ports: &mut PortsInUse,
        run: &mut GcRun,
    ) -> Result<(), MapError> {
        let referenced_before = mem::take(&mut run.referenced);
        let mut counts = GcRun { referenced: referenced_before, ..GcRun::default() };
        collect(self, now, referenced, ports, &mut counts)?;
        run.referenced = counts.referenced;
        run.entries += counts.entries;
        run.half_open += counts.half_open;
        run.removed += counts.removed;
        for (table, entries) in [
            (&self.established, counts.entries - counts.half_open),
            (&self.half_open, counts.half_open),
        ] {
            let (map, capacity) = table.capacity();
            run.tables.push(Fill { map, entries, capacity: capacity.into() });
        }
        Ok(())
    }
}

impl<A> FamilyFlows<A> {
    const fn table(&self, table: Which) -> &FlowTable<A> {
        match table {
            Which::Established => &self.established,
            Which::HalfOpen => &self.half_open,
        }
    }
}

impl<A: Stored> FlowTables<A> for FamilyFlows<A> {
    fn for_each(
        &self,
        table: Which,
        visit: &mut dyn FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        self.table(table).for_each(now, visit)
    }

    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<ConntrackEntry<A>>, MapError> {
        Ok(self.table(table).find(tuple, now()))
    }

    fn remove(
        &self,
        table: Which,
        tuple: &Tuple<A>,
        read: &ConntrackEntry<A>,
    ) -> Result<bool, MapError> {
        Ok(self.table(table).remove(tuple, now(), read) != Removed::Not)
    }
}

/// The time by the clock of conntrack entries (`CLOCK_MONOTONIC`).
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
