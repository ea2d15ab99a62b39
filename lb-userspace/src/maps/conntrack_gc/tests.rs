use std::cell::RefCell;
use std::collections::BTreeMap;

use lb_common::address::{Port, Protocol};
use lb_common::conntrack::State;
use lb_common::filter;

use super::port_hints::PortsInUse;
use super::*;

type Entries = BTreeMap<(Which, Tuple<V4>), ConntrackEntry<V4>>;

#[derive(Default)]
struct Memory(RefCell<Entries>, RefCell<Vec<Tuple<V4>>>);

impl FlowTables<V4> for Memory {
    fn for_each(
        &self,
        table: Which,
        visit: &mut dyn FnMut(Tuple<V4>, ConntrackEntry<V4>) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        let entries: Vec<_> = self.0.borrow().iter().map(|(k, v)| (*k, *v)).collect();
        for ((_, tuple), entry) in entries.into_iter().filter(|((t, _), _)| *t == table) {
            visit(tuple, entry)?;
        }
        Ok(())
    }

    fn find(&self, t: Which, tuple: &Tuple<V4>) -> Result<Option<ConntrackEntry<V4>>, MapError> {
        Ok(self.0.borrow().get(&(t, *tuple)).copied())
    }

    fn remove(
        &self,
        table: Which,
        tuple: &Tuple<V4>,
        read: &ConntrackEntry<V4>,
    ) -> Result<bool, MapError> {
        self.1.borrow_mut().push(*tuple);
        let mut entries = self.0.borrow_mut();
        let is_unchanged = entries.get(&(table, *tuple)).is_none_or(|entry| entry == read);
        if is_unchanged {
            entries.remove(&(table, *tuple));
        }
        Ok(is_unchanged)
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

fn entry(rewritten: Tuple<V4>, flags: u8, state: State, age_seconds: u32) -> ConntrackEntry<V4> {
    ConntrackEntry {
        rewritten,
        backend: BackendId(7),
        generation: 1,
        last_seen: Ticks(START - Ticks::of_seconds(age_seconds)),
        state,
        flags,
        ..ConntrackEntry::empty()
    }
}

impl Memory {
    /// Adds a flow whose two entries were last seen so many seconds ago.
    fn flow(self, client: u8, table: Which, state: State, ages: (u32, u32)) -> Self {
        let (forward, reply) = tuples(client);
        let reply_flag = ConntrackEntry::<V4>::REPLY;
        let entries = &mut *self.0.borrow_mut();
        entries.insert((table, forward), entry(reply.reversed(), 0, state, ages.0));
        let reply_entry = entry(forward.reversed(), reply_flag, state, ages.1);
        entries.insert((table, reply), reply_entry);
        Self(RefCell::new(mem::take(entries)), RefCell::default())
    }

    #[track_caller]
    fn expect(&self, left: usize) -> (GcRun, BTreeSet<BackendId>) {
        let (mut counts, mut referenced) = (GcRun::default(), BTreeSet::new());
        let mut ports = PortsInUse::none();
        collect(self, Ticks(START), &mut referenced, &mut ports, &mut counts).unwrap();
        assert_eq!(self.0.borrow().len(), left);
        (counts, referenced)
    }
}

#[test]
fn a_flow_expires_when_both_directions_are_idle_and_its_backend_is_still_counted() {
    let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (70, 70));
    let (counts, referenced) = memory.expect(0);
    assert_eq!((counts.entries, counts.removed), (2, 2));
    assert_eq!(referenced, BTreeSet::from([BackendId(7)]));
}

#[test]
fn a_flow_stays_while_one_direction_is_active() {
    for ages in [(70, 5), (5, 70), (5, 5)] {
        let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, ages);
        memory.expect(2);
    }
}

#[test]
fn an_established_flow_expires_later_than_a_new_one_and_a_reset_one_soon() {
    let established = State::REPLIED.with(State::ESTABLISHED);
    let memory = Memory::default().flow(1, Which::Established, established, (700, 700)).flow(
        2,
        Which::Established,
        established.with(State::RST),
        (20, 20),
    );
    memory.expect(2);
}

#[test]
fn the_original_entry_is_removed_first_whichever_is_read_first() {
    // The tables here are read in the order of source addresses; the backend's is 10.244.0.1.
    for client in [1, 200] {
        let (forward, reply) = tuples(client);
        let memory = Memory::default().flow(client, Which::HalfOpen, State::NEW, (70, 70));
        memory.expect(0);
        assert_eq!(*memory.1.borrow(), [forward, reply]);
    }
}

#[test]
fn an_entry_without_the_other_direction_expires_once_it_is_idle() {
    for (age, left) in [(70, 0), (5, 1)] {
        let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (5, age));
        memory.0.borrow_mut().remove(&(Which::HalfOpen, tuples(1).0));
        memory.expect(left);
    }
}

#[test]
fn an_entry_of_another_flow_under_the_reply_tuple_is_left_alone() {
    let memory = Memory::default().flow(1, Which::HalfOpen, State::NEW, (70, 5));
    let (forward, reply) = tuples(1);
    let other = entry(tuples(2).0.reversed(), ConntrackEntry::<V4>::REPLY, State::NEW, 5);
    memory.0.borrow_mut().insert((Which::HalfOpen, reply), other);
    memory.expect(1);
    assert!(!memory.0.borrow().contains_key(&(Which::HalfOpen, forward)));
}

#[test]
fn a_flow_half_moved_between_the_tables_is_one_flow() {
    let memory = Memory::default().flow(1, Which::Established, State::NEW, (5, 70));
    let (forward, _) = tuples(1);
    let moved = memory.0.borrow_mut().remove(&(Which::Established, forward));
    memory.0.borrow_mut().insert((Which::HalfOpen, forward), moved.unwrap());
    memory.expect(2);
}

#[test]
fn hints_are_set_of_flows_with_snat_and_cleared_of_those_that_are_gone() {
    let own = |port| (V4([192, 0, 2, 1]), Port::new(port));
    let (backend, client) = ((V4([10, 244, 0, 1]), Port::new(8080)), (V4([9, 0, 0, 1]), 4000));
    let snat = ConntrackEntry::<V4>::REPLY | ConntrackEntry::<V4>::SNAT;
    let reply_key = |port| {
        let (address, port) = own(port);
        Tuple::new(backend.0, backend.1, address, port, Protocol::TCP)
    };
    let rewritten =
        Tuple::new(V4([10, 96, 0, 1]), Port::new(80), client.0, Port::new(client.1), Protocol::TCP);
    let group = lb_common::snat::group(&backend.0, backend.1, Protocol::TCP, &own(0).0);
    let hint = |port| {
        let (row, word, bit) = lb_common::snat::place(Port::new(port));
        (lb_common::snat::hint_row(group, row), word as usize, 1 << bit)
    };
    let (row, word, bit) = hint(2048);
    let (same_row, gone_word, gone_bit) = hint(2200);
    assert_eq!(row, same_row);
    let mut ports = PortsInUse::none();
    let mut before = PortHints::default();
    before[gone_word] = gone_bit;
    ports.set_before(row, before);
    for port in [2048, 2500] {
        ports.note(&reply_key(port), &entry(rewritten, snat, State::NEW, 1));
    }
    // Set by a walk since the run began.
    let mut now = before;
    now[0] |= 1 << 63;
    let changed = ports.change(row as usize, &now).expect("a hint is stale, and one is missing");
    assert_eq!(changed[gone_word] & gone_bit, 0);
    assert_eq!(changed[word] & bit, bit);
    assert_eq!(changed[0] >> 63, 1);
    assert_eq!(ports.busiest(), 2);
    let plain = ConntrackEntry::<V4>::REPLY;
    let kept = Tuple { destination_port: Port::new(2048), ..rewritten };
    let mut others = PortsInUse::none();
    others.note(&reply_key(2048), &entry(kept, plain, State::NEW, 1));
    assert_eq!(others.busiest(), 0);
}

#[test]
fn a_flow_that_stays_needs_the_filters_bits_of_its_frontend_and_its_backend() {
    let (forward, reply) = tuples(1);
    let mut needed = crate::maps::FilterBits::default();
    let (to, from) = (&forward.destination, &reply.source);
    needed.add(filter::frontend(to, forward.destination_port, Protocol::TCP));
    needed.add(filter::backend(from, reply.source_port, Protocol::TCP));
    let flow = |age| Memory::default().flow(1, Which::HalfOpen, State::NEW, (age, age));
    let (run, _) = flow(5).expect(2);
    assert_eq!(run.referenced.filter, needed);
    // Either entry tells both: the kernel may have evicted the other one.
    for gone in [forward, reply] {
        let memory = flow(5);
        let read = memory.find(Which::HalfOpen, &gone).unwrap().unwrap();
        assert!(memory.remove(Which::HalfOpen, &gone, &read).unwrap());
        assert_eq!(memory.expect(1).0.referenced.filter, needed);
    }
    let over = flow(70);
    over.expect(0);
    assert!(over.expect(0).0.referenced.filter.is_empty(), "a flow that is gone needs none");
}
