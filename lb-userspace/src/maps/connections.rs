//! Forgetting flows that are over. A flow has two entries, each of which is seen by one direction's
//! packets; it is over when both have been idle for longer than their state allows. Both then go,
//! the client's first: without it a new flow of the same client begins afresh, while without the
//! backend's the old one would go on and never be answered.

use std::collections::BTreeSet;
use std::mem;

use bytemuck::Pod;
use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::backend::BackendId;
use lb_common::connection::{Connection, Ticks};
use lb_common::maps;
use lb_ebpf::tables::Table as Which;
use nix::time::{ClockId, clock_gettime};

use super::batch::Table;
use super::{BackendSet, MapError};
use crate::programs::pins::Pins;

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
        see: &mut dyn FnMut(Tuple<A>, Connection<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError>;
    /// The entry of `tuple`; looking does not count as use.
    ///
    /// # Errors
    /// The table could not be read.
    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<Connection<A>>, MapError>;
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
fn is_idle<A: Address>(tuple: &Tuple<A>, entry: &Connection<A>, now: Ticks) -> bool {
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
        let its_tuple = entry.partner();
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
    entry: &Connection<A>,
) -> Result<Option<(Which, Connection<A>)>, MapError> {
    let other = match table {
        Which::Established => Which::HalfOpen,
        Which::HalfOpen => Which::Established,
    };
    for table in [table, other] {
        if let Some(found) = tables.find(table, &entry.partner())?
            && found.partner() == *tuple
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
    established: Table<Tuple<A>, Connection<A>>,
    half_open: Table<Tuple<A>, Connection<A>>,
}

impl KernelFlows {
    /// Opens the tables that an agent has made.
    ///
    /// # Errors
    /// One of them is not there, or is another version's.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            v4: FamilyFlows {
                established: Table::open(pins, &maps::CONNECTIONS_V4)?,
                half_open: Table::open(pins, &maps::HALF_OPEN_V4)?,
            },
            v6: FamilyFlows {
                established: Table::open(pins, &maps::CONNECTIONS_V6)?,
                half_open: Table::open(pins, &maps::HALF_OPEN_V6)?,
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
    Connection<A>: Pod,
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
            let (map, capacity) = table.room();
            found.tables.push(Fill { map, entries, capacity: capacity.into() });
        }
        Ok(())
    }
}

impl<A: Address> FamilyFlows<A> {
    const fn table(&self, table: Which) -> &Table<Tuple<A>, Connection<A>> {
        match table {
            Which::Established => &self.established,
            Which::HalfOpen => &self.half_open,
        }
    }
}

impl<A: Address> FlowTables<A> for FamilyFlows<A>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    fn for_each(
        &self,
        table: Which,
        see: &mut dyn FnMut(Tuple<A>, Connection<A>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        self.table(table).for_each(see)
    }

    fn find(&self, table: Which, tuple: &Tuple<A>) -> Result<Option<Connection<A>>, MapError> {
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
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use lb_common::address::{Port, Protocol};
    use lb_common::connection::State;
    use lb_common::service::ServiceId;

    use super::*;

    type Entries = BTreeMap<(Which, Tuple<V4>), Connection<V4>>;

    #[derive(Default)]
    struct Memory(RefCell<Entries>, RefCell<Vec<Tuple<V4>>>);

    impl FlowTables<V4> for Memory {
        fn for_each(
            &self,
            table: Which,
            see: &mut dyn FnMut(Tuple<V4>, Connection<V4>) -> Result<(), MapError>,
        ) -> Result<(), MapError> {
            let entries: Vec<_> = self.0.borrow().iter().map(|(k, v)| (*k, *v)).collect();
            for ((_, tuple), entry) in entries.into_iter().filter(|((t, _), _)| *t == table) {
                see(tuple, entry)?;
            }
            Ok(())
        }

        fn find(&self, t: Which, tuple: &Tuple<V4>) -> Result<Option<Connection<V4>>, MapError> {
            Ok(self.0.borrow().get(&(t, *tuple)).copied())
        }

        fn remove(&self, table: Which, tuple: &Tuple<V4>) -> Result<(), MapError> {
            self.1.borrow_mut().push(*tuple);
            self.0.borrow_mut().remove(&(table, *tuple));
            Ok(())
        }
    }

    const START: u32 = 1000;

    fn tuples(client: u8) -> (Tuple<V4>, Tuple<V4>) {
        let client = (V4([client, 0, 0, 1]), Port::new(4000));
        let frontend = (V4([10, 96, 0, 1]), Port::new(80));
        let backend = (V4([10, 244, 0, 1]), Port::new(8080));
        let arriving = |(s, sp), (d, dp)| Tuple::new(s, sp, d, dp, Protocol::TCP);
        (arriving(client, frontend), arriving(backend, client))
    }

    fn entry(rewritten: Tuple<V4>, flags: u8, state: State, age_seconds: u32) -> Connection<V4> {
        Connection {
            rewritten,
            service: ServiceId(1),
            backend: BackendId(7),
            generation: 1,
            last_seen: Ticks(START - Ticks::of_seconds(age_seconds)),
            state,
            flags,
            zero: 0,
        }
    }

    impl Memory {
        /// A flow whose two entries were last seen so many seconds ago.
        fn flow(self, client: u8, table: Which, state: State, ages: (u32, u32)) -> Self {
            let (forward, reply) = tuples(client);
            let reply_flag = Connection::<V4>::REPLY;
            let entries = &mut *self.0.borrow_mut();
            entries.insert((table, forward), entry(reply.reversed(), 0, state, ages.0));
            let answer = entry(forward.reversed(), reply_flag, state, ages.1);
            entries.insert((table, reply), answer);
            Self(RefCell::new(mem::take(entries)), RefCell::default())
        }

        #[track_caller]
        fn expect(&self, left: usize) -> (Sweep, BTreeSet<BackendId>) {
            let (mut counts, mut referenced) = (Sweep::default(), BTreeSet::new());
            sweep(self, Ticks(START), &mut referenced, &mut counts).unwrap();
            assert_eq!(self.0.borrow().len(), left);
            (counts, referenced)
        }
    }

    #[test]
    fn a_flow_goes_when_both_directions_are_idle_and_its_backend_counts_once_more() {
        let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (70, 70));
        let (counts, referenced) = memory.expect(0);
        assert_eq!((counts.entries, counts.removed), (2, 2));
        assert_eq!(referenced, BTreeSet::from([BackendId(7)]));
    }

    #[test]
    fn a_flow_stays_while_one_direction_is_heard() {
        for ages in [(70, 5), (5, 70), (5, 5)] {
            let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, ages);
            memory.expect(2);
        }
    }

    #[test]
    fn an_established_flow_waits_longer_than_a_new_one_and_a_reset_one_hardly_at_all() {
        let established = State::ANSWERED.with(State::ESTABLISHED);
        let memory = Memory::default().flow(1, Which::Established, established, (700, 700)).flow(
            2,
            Which::Established,
            established.with(State::RESET),
            (20, 20),
        );
        memory.expect(2);
    }

    #[test]
    fn the_clients_entry_goes_first_whichever_is_seen_first() {
        // The tables here are read in the order of source addresses; the backend's is 10.244.0.1.
        for client in [1, 200] {
            let (forward, reply) = tuples(client);
            let memory = Memory::default().flow(client, Which::HalfOpen, State::NEW, (70, 70));
            memory.expect(0);
            assert_eq!(*memory.1.borrow(), [forward, reply]);
        }
    }

    #[test]
    fn a_half_without_its_partner_goes_once_it_is_idle() {
        for (age, left) in [(70, 0), (5, 1)] {
            let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (5, age));
            memory.0.borrow_mut().remove(&(Which::HalfOpen, tuples(1).0));
            memory.expect(left);
        }
    }

    #[test]
    fn an_entry_of_another_flow_in_the_partners_place_neither_keeps_nor_loses_anything() {
        let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (70, 5));
        let (forward, reply) = tuples(1);
        let other = entry(tuples(2).0.reversed(), Connection::<V4>::REPLY, State::NEW, 5);
        memory.0.borrow_mut().insert((Which::HalfOpen, reply), other);
        memory.expect(1);
        assert!(!memory.0.borrow().contains_key(&(Which::HalfOpen, forward)));
    }

    #[test]
    fn a_flow_that_is_half_moved_between_the_tables_is_still_one_flow() {
        let memory = Memory::default().flow(1, Which::Established, State::NEW, (5, 70));
        let (forward, _) = tuples(1);
        let moved = memory.0.borrow_mut().remove(&(Which::Established, forward));
        memory.0.borrow_mut().insert((Which::HalfOpen, forward), moved.unwrap());
        memory.expect(2);
    }
}
