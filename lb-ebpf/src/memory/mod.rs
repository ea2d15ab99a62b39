//! A world in memory, for tests and for `weir explain`: the same traits as the kernel's, over
//! ordinary collections. It imitates one habit of the kernel's: a way that is asked for the first
//! time is not fit for XDP, and is used by TC with the neighbour left to the kernel.

mod rows;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId, Traffic};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::service::{AddressRow, Frontend, FrontendRow};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

pub use self::rows::{FamilyRows, Rows};
use crate::packet::{COPIED, LINK_HEADER, LONGEST_HELD, Packet, Unwritable};
use crate::tables::{Connections, Memories, NextHop, Node, Refusal, Route, Table, Tables};

/// The agent's rows, connections of both families, and the node around them.
#[derive(Debug)]
pub struct World<T> {
    /// The rows that the agent writes.
    pub tables: T,
    /// Connections and ways of IPv4.
    pub v4: Half<V4>,
    /// Connections and ways of IPv6.
    pub v6: Half<V6>,
    /// The time.
    pub now: Cell<Ticks>,
    /// Whether the hook resolves neighbours, as TC does and XDP does not.
    pub resolves: Cell<bool>,
    /// How many more senders may be answered.
    pub answers: Cell<u32>,
    /// The device that the packet is at.
    pub here: Cell<u32>,
    /// Fragments that were held and come by again.
    pub released: RefCell<Vec<Vec<u8>>>,
}

/// What a world holds of one family.
#[derive(Debug)]
pub struct Half<A> {
    established: RefCell<BTreeMap<Tuple<A>, Connection<A>>>,
    half_open: RefCell<BTreeMap<Tuple<A>, Connection<A>>>,
    /// Most entries that the table of established connections takes.
    pub capacity: Cell<usize>,
    /// What clients got last.
    pub affinity: RefCell<BTreeMap<Client<A>, Affinity>>,
    fragments: RefCell<BTreeMap<Fragmented<A>, FirstFragment>>,
    held: RefCell<BTreeMap<HeldFragment<A>, Vec<u8>>>,
    /// Counts per backend.
    pub traffic: RefCell<BTreeMap<BackendId, Traffic>>,
    /// The ways there are, by destination.
    pub routes: BTreeMap<A, NextHop>,
    /// Ways that have been asked for.
    asked: RefCell<BTreeSet<A>>,
    /// Addresses of devices, by interface index.
    pub own_addresses: BTreeMap<u32, A>,
    /// Tuples for which the node has a socket.
    pub sockets: BTreeSet<Tuple<A>>,
}

impl<A: Address> Default for Half<A> {
    fn default() -> Self {
        Self {
            established: RefCell::default(),
            half_open: RefCell::default(),
            capacity: Cell::new(usize::MAX),
            affinity: RefCell::default(),
            fragments: RefCell::default(),
            held: RefCell::default(),
            traffic: RefCell::default(),
            routes: BTreeMap::new(),
            asked: RefCell::default(),
            own_addresses: BTreeMap::new(),
            sockets: BTreeSet::new(),
        }
    }
}

impl<A: Address> Half<A> {
    /// A copy of all entries of a table.
    #[must_use]
    pub fn entries(&self, table: Table) -> BTreeMap<Tuple<A>, Connection<A>> {
        self.table(table).borrow().clone()
    }

    /// Removes one half-open entry, as the kernel does where it needs the room.
    pub fn evict(&self, tuple: &Tuple<A>) {
        self.half_open.borrow_mut().remove(tuple);
    }

    const fn table(&self, table: Table) -> &RefCell<BTreeMap<Tuple<A>, Connection<A>>> {
        match table {
            Table::Established => &self.established,
            Table::HalfOpen => &self.half_open,
        }
    }
}

impl<T> World<T> {
    /// A world of these rows, without connections or ways, at tick 1.
    #[must_use]
    pub fn new(tables: T) -> Self {
        Self {
            tables,
            v4: Half::default(),
            v6: Half::default(),
            now: Cell::new(Ticks(1)),
            resolves: Cell::new(true),
            answers: Cell::new(u32::MAX),
            here: Cell::new(0),
            released: RefCell::default(),
        }
    }
}

/// A family that a world holds a half of.
pub trait InMemory: Address {
    /// That half.
    fn of<T>(world: &World<T>) -> &Half<Self>;
}

impl InMemory for V4 {
    fn of<T>(world: &World<T>) -> &Half<Self> {
        &world.v4
    }
}

impl InMemory for V6 {
    fn of<T>(world: &World<T>) -> &Half<Self> {
        &world.v6
    }
}

impl<A: InMemory, T: Tables<A>> Tables<A> for World<T> {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.tables.frontend(frontend)
    }

    fn address(&self, address: &A) -> Option<AddressRow> {
        self.tables.address(address)
    }

    fn may_be_service(&self, address: &A) -> bool {
        self.tables.may_be_service(address)
    }

    fn allows(&self, client: &SourceRange<A>) -> bool {
        self.tables.allows(client)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        Tables::<A>::slot(&self.tables, index)
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.tables.backend(id)
    }

    fn may_concern(&self, position: Position) -> bool {
        Tables::<A>::may_concern(&self.tables, position)
    }

    fn settings(&self) -> Settings {
        Tables::<A>::settings(&self.tables)
    }
}

impl<A: InMemory, T> Connections<A> for World<T> {
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let mut entries = A::of(self).table(table).borrow_mut();
        let Some(found) = entries.get_mut(tuple) else { return false };
        found.last_seen = self.now.get();
        *entry = *found;
        true
    }

    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let entries = A::of(self).table(table).borrow();
        let Some(found) = entries.get(tuple) else { return false };
        *entry = *found;
        true
    }

    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool {
        let entries = A::of(self).table(table).borrow();
        entries.get(tuple).is_some_and(|found| found.rewritten == *rewritten)
    }

    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal> {
        let half = A::of(self);
        let mut entries = half.table(table).borrow_mut();
        if entries.contains_key(tuple) {
            return Err(Refusal::Exists);
        }
        if table == Table::Established && entries.len() >= half.capacity.get() {
            return Err(Refusal::Full);
        }
        entries.insert(*tuple, *entry);
        Ok(())
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State) {
        if let Some(found) = A::of(self).table(table).borrow_mut().get_mut(tuple) {
            found.state = state;
        }
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        A::of(self).table(table).borrow_mut().remove(tuple);
    }

    fn count_connection(&self, backend: BackendId) {
        A::of(self).traffic.borrow_mut().entry(backend).or_default().connections += 1;
    }

    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        let mut traffic = A::of(self).traffic.borrow_mut();
        let counts = traffic.entry(backend).or_default();
        if reply {
            counts.reply_packets += 1;
            counts.reply_bytes += bytes;
        } else {
            counts.packets += 1;
            counts.bytes += bytes;
        }
    }
}

impl<A: InMemory, T> Memories<A> for World<T> {
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        A::of(self).affinity.borrow().get(client).copied()
    }

    fn keep_affinity(&self, client: &Client<A>, affinity: &Affinity, instead: bool) -> bool {
        let mut clients = A::of(self).affinity.borrow_mut();
        if !instead && clients.contains_key(client) {
            return false;
        }
        clients.insert(*client, *affinity);
        true
    }

    fn first_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        let fragments = A::of(self).fragments.borrow();
        fragments.get(packet).map(|found| *first = *found).is_some()
    }

    fn forget_fragment(&self, packet: &Fragmented<A>) {
        A::of(self).fragments.borrow_mut().remove(packet);
    }

    fn hold<P: Packet + ?Sized>(&self, held: &HeldFragment<A>, frame: &mut P) -> bool {
        let length = frame.length();
        let bytes = (0..length as usize).map(|at| frame.header::<1>(at).map(|byte| byte[0]));
        let Some(bytes) = bytes.collect::<Option<Vec<u8>>>() else { return false };
        let fits = length <= LONGEST_HELD;
        if fits {
            A::of(self).held.borrow_mut().insert(*held, bytes);
        }
        fits
    }

    fn release<P: Packet + ?Sized>(
        &self,
        held: &mut HeldFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), Unwritable> {
        if frame.length() > LONGEST_HELD {
            return Ok(());
        }
        for number in 0..u32::from(count.min(FirstFragment::MOST_HELD)) {
            held.number = number;
            let bytes = A::of(self).held.borrow_mut().remove(held);
            self.released.borrow_mut().extend(bytes);
        }
        Ok(())
    }

    fn keep_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        A::of(self).fragments.borrow_mut().insert(*packet, *first);
    }
}

impl<A: InMemory, T> Node<A> for World<T> {
    fn now(&self) -> Ticks {
        self.now.get()
    }

    fn route(&self, destination: &A) -> Route {
        let half = A::of(self);
        let resolves = self.resolves.get();
        let Some(next_hop) = half.routes.get(destination) else {
            return if resolves { Route::Unreachable } else { Route::Unknown };
        };
        let first = half.asked.borrow_mut().insert(*destination);
        match (first, resolves) {
            (true, true) => Route::Known(NextHop { link: None, ..*next_hop }),
            (true, false) => Route::Unknown,
            (false, _) => Route::Known(*next_hop),
        }
    }

    fn own_address(&self, device: u32) -> A {
        A::of(self).own_addresses.get(&device).copied().unwrap_or(A::zeroed())
    }

    fn here(&self) -> A {
        self.own_address(self.here.get())
    }

    fn may_answer(&self) -> bool {
        let left = self.answers.get();
        self.answers.set(left.saturating_sub(1));
        left > 0
    }

    fn has_socket(&self, tuple: &Tuple<A>) -> bool {
        A::of(self).sockets.contains(tuple)
    }
}

/// A frame in memory.
impl Packet for Vec<u8> {
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.get_mut(offset..)?.first_chunk_mut()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn exceeds(&self, mtu: u32) -> bool {
        self.length().saturating_sub(LINK_HEADER as u32) > mtu
    }

    fn copy(
        &mut self,
        offset: usize,
        length: u32,
        into: &mut [u8; COPIED],
        at: usize,
    ) -> Result<(), Unwritable> {
        let from = self.get(offset..).and_then(|rest| rest.get(..length as usize));
        let into = into.get_mut(at..).and_then(|rest| rest.get_mut(..length as usize));
        into.zip(from).map(|(into, from)| into.copy_from_slice(from)).ok_or(Unwritable)
    }

    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), Unwritable> {
        let with = from.get(..length as usize).ok_or(Unwritable)?;
        self.truncate(LINK_HEADER);
        self.extend_from_slice(with);
        Ok(())
    }
}
