//! A world in memory that several CPUs share: each question and each write is one step, as in the
//! kernel's maps, and between two steps any other CPU may go on.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::table::{self, NotInserted, Stamp, WhenFull};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::snat::Rows as PortRows;
use lb_common::source_range::SourceRange;
use lb_ebpf::in_memory::{InMemory, Rows, World};
use lb_ebpf::packet::{Packet, WriteError};
use lb_ebpf::wire::Proof;
use lb_ebpf::world::{
    AcceptedLink, AffinityTable, Conntrack, FibResult, Fragments, Host, InsertError, RateLimit,
    Table, Tables, Use,
};
use shuttle::sync::{Mutex, MutexGuard};

use crate::words::ConntrackTables;

/// The world that all CPUs share.
pub struct Shared {
    world: Mutex<World<Rows>>,
    /// The kernel's conntrack tables, at each word of which another CPU may go on; if there are none, the
    /// world's, whose operations are one step each.
    tables: Option<ConntrackTables>,
}

impl Shared {
    /// Shares `world`, with the kernel's conntrack tables or its own.
    pub fn new(world: World<Rows>, has_tables: bool) -> Self {
        Self { world: Mutex::new(world), tables: has_tables.then(ConntrackTables::new) }
    }

    /// The world, for one step.
    pub fn step(&self) -> MutexGuard<'_, World<Rows>> {
        self.world.lock().expect("a walk that panics fails the test")
    }
}

impl<A: InMemory> Tables<A> for Shared {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.step().frontend(frontend)
    }

    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        self.step().ip_policy(address)
    }

    fn in_service_ranges(&self, address: &A) -> bool {
        self.step().in_service_ranges(address)
    }

    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        self.step().source_allowed(source)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        Tables::<A>::slot(&*self.step(), index)
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.step().backend(id)
    }

    fn filter_matches(&self, position: Position) -> bool {
        Tables::<A>::filter_matches(&*self.step(), position)
    }

    fn settings(&self) -> Settings {
        Tables::<A>::settings(&*self.step())
    }
}

impl<A: InMemory> Conntrack<A> for Shared {
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool {
        let Some(tables) = &self.tables else {
            return self.step().lookup_and_touch(table, tuple, proof, entry);
        };
        let (memory, now) = (tables.of::<A>(table), Host::<A>::now(self));
        match table {
            Table::Established => {
                let acknowledgment = proof.acknowledgment;
                table::read_and_touch_likely(memory, tuple, now, acknowledgment, entry)
                    || table::read_and_touch(memory, tuple, now, acknowledgment, entry)
            }
            Table::HalfOpen => table::read_and_touch(memory, tuple, now, 0, entry),
        }
    }

    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool {
        let Some(tables) = &self.tables else {
            return self.step().lookup(table, tuple, entry);
        };
        table::read(tables.of::<A>(table), tuple, Host::<A>::now(self), entry)
    }

    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
        let Some(tables) = &self.tables else {
            return self.step().has_mapping(table, tuple, other);
        };
        table::has_mapping(tables.of::<A>(table), tuple, other)
    }

    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError> {
        let Some(tables) = &self.tables else { return self.step().insert(table, tuple, entry) };
        let stamp = Stamp::of_ticks(Host::<A>::now(self));
        let when_full = match table {
            Table::Established => WhenFull::Refuse,
            Table::HalfOpen => WhenFull::Evict,
        };
        let inserted = table::insert(tables.of::<A>(table), tuple, entry, stamp, when_full);
        inserted.map_err(|error| match error {
            NotInserted::Exists => InsertError::Exists,
            NotInserted::Full => InsertError::Full,
        })
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State) {
        match &self.tables {
            None => self.step().set_state(table, tuple, before, after),
            Some(tables) => table::set_state(tables.of::<A>(table), tuple, before, after),
        }
    }

    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32) {
        match &self.tables {
            None => self.step().set_expected(table, tuple, expected),
            Some(tables) => table::set_expected(tables.of::<A>(table), tuple, expected),
        }
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        match &self.tables {
            None => self.step().remove(table, tuple),
            Some(tables) => table::remove(tables.of::<A>(table), tuple),
        }
    }

    fn full_rows(&self, group: u32) -> PortRows {
        Conntrack::<A>::full_rows(&*self.step(), group)
    }

    fn set_row_full(&self, group: u32, row: u32) {
        Conntrack::<A>::set_row_full(&*self.step(), group, row);
    }

    fn port_hint_word(&self, row: u32, word: u32) -> u64 {
        Conntrack::<A>::port_hint_word(&*self.step(), row, word)
    }

    fn set_port_hint(&self, row: u32, word: u32, bit: u64) {
        Conntrack::<A>::set_port_hint(&*self.step(), row, word, bit);
    }

    fn count_connection(&self, backend: BackendId) {
        Conntrack::<A>::count_connection(&*self.step(), backend);
    }

    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        Conntrack::<A>::count_packet(&*self.step(), backend, reply, bytes);
    }
}

impl<A: InMemory> AffinityTable<A> for Shared {
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        self.step().affinity(client)
    }

    fn set_affinity(&self, client: &Client<A>, affinity: &Affinity, overwrite: bool) -> bool {
        self.step().set_affinity(client, affinity, overwrite)
    }
}

impl<A: InMemory> Fragments<A> for Shared {
    fn lookup_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        self.step().lookup_fragment(packet, first)
    }

    fn set_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        self.step().set_fragment(packet, first);
    }

    fn remove_fragment(&self, packet: &Fragmented<A>) {
        self.step().remove_fragment(packet);
    }

    fn enqueue<P: Packet + ?Sized>(&self, fragment: &QueuedFragment<A>, frame: &mut P) -> bool {
        self.step().enqueue(fragment, frame)
    }

    fn release<P: Packet + ?Sized>(
        &self,
        fragment: &mut QueuedFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), WriteError> {
        self.step().release(fragment, count, frame)
    }
}

impl<A: InMemory> Host<A> for Shared {
    fn hands_over(&self) -> bool {
        false
    }

    fn now(&self) -> Ticks {
        Host::<A>::now(&*self.step())
    }

    fn fib_lookup(&self, source: &A, destination: &A, purpose: Use) -> FibResult {
        self.step().fib_lookup(source, destination, purpose)
    }

    fn source_address(&self, source: &A, destination: &A, device: u32, own: &mut A) {
        self.step().source_address(source, destination, device, own);
    }

    fn is_own_packet(&self) -> bool {
        Host::<A>::is_own_packet(&*self.step())
    }

    fn is_at(&self, device: u32) -> bool {
        Host::<A>::is_at(&*self.step(), device)
    }

    fn own_address(&self) -> A {
        self.step().own_address()
    }

    fn is_for_this_node<P: Packet + ?Sized>(
        &self,
        frame: &mut P,
        accepted: &mut AcceptedLink,
    ) -> bool {
        Host::<A>::is_for_this_node(&*self.step(), frame, accepted)
    }

    fn allow(&self, limit: RateLimit) -> bool {
        Host::<A>::allow(&*self.step(), limit)
    }

    fn socket_exists(&self, tuple: &Tuple<A>) -> bool {
        self.step().socket_exists(tuple)
    }
}

/// All entries of `A`'s family in a table.
pub fn entries<A: Address + InMemory>(
    shared: &Shared,
    table: Table,
) -> Vec<(Tuple<A>, ConntrackEntry<A>)> {
    match &shared.tables {
        None => A::of(&*shared.step()).entries(table).into_iter().collect(),
        Some(tables) => tables.of::<A>(table).entries(Host::<A>::now(shared)),
    }
}
