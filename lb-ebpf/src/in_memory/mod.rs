//! A world in memory, for tests and for `weir explain`: the same traits as the kernel's, over ordinary
//! collections. It imitates one habit of the kernel's programs: the first packet to a neighbour is left to
//! TC, which leaves the neighbour to the kernel.

mod backing;
mod conntrack;
mod packet;
mod tables;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{BackendId, Traffic};
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::snat::{self, PortHints};

pub use self::backing::Backing;
pub use self::packet::Segmented;
pub use self::tables::{FamilyRows, Rows};
use crate::world::{NextHop, RateLimit, Table};

/// The agent's rows, conntrack entries of both families, and the host around them. What it does not
/// hold it asks of `B` when it is first looked up.
#[derive(Debug)]
pub struct World<T, B = ()> {
    /// The rows that the agent writes.
    pub tables: T,
    /// What stands behind the memory.
    pub backing: B,
    /// Entries and routes of IPv4.
    pub v4: FamilyState<V4>,
    /// Entries and routes of IPv6.
    pub v6: FamilyState<V6>,
    /// Which source ports are thought to be in use, by row.
    pub port_hints: RefCell<BTreeMap<u32, PortHints>>,
    /// Which rows of source ports are thought to be full, by group of flows.
    pub full_rows: RefCell<BTreeMap<u32, snat::Rows>>,
    /// The time.
    pub now: Cell<Ticks>,
    /// Whether another release is taking over.
    pub hands_over: Cell<bool>,
    /// Whether the hook resolves neighbours, as TC does and XDP does not.
    pub resolves: Cell<bool>,
    /// How many times more each rate limit allows; without a number, any.
    pub allowed: RefCell<BTreeMap<RateLimit, u32>>,
    /// Interface index of the device that the packet is at.
    pub device: Cell<u32>,
    /// Whether what leaves is this node's own, and its processes are balanced.
    pub is_own_packet: Cell<bool>,
    /// Link address of that device; all zero for one that takes every frame.
    pub link: Cell<[u8; 6]>,
    /// Fragments that were queued and are sent through their device again.
    pub released: RefCell<Vec<Vec<u8>>>,
}

/// What a world holds of one family.
#[derive(Debug)]
pub struct FamilyState<A> {
    established: RefCell<BTreeMap<Tuple<A>, ConntrackEntry<A>>>,
    half_open: RefCell<BTreeMap<Tuple<A>, ConntrackEntry<A>>>,
    /// Entries that have been asked of what stands behind the memory, found or not.
    asked_entries: RefCell<BTreeSet<(Table, Tuple<A>)>>,
    /// Clients that have been asked for.
    asked_clients: RefCell<BTreeSet<Client<A>>>,
    /// Capacity of the established table, in entries.
    pub capacity: Cell<usize>,
    /// What clients got last.
    pub affinity: RefCell<BTreeMap<Client<A>, Affinity>>,
    fragments: RefCell<BTreeMap<Fragmented<A>, FirstFragment>>,
    queued: RefCell<BTreeMap<QueuedFragment<A>, Vec<u8>>>,
    /// Counters per backend.
    pub traffic: RefCell<BTreeMap<BackendId, Traffic>>,
    /// The routes, by destination.
    pub routes: BTreeMap<A, NextHop>,
    /// Devices and link addresses of neighbours that the kernel has been given a packet for, by TC.
    pub confirmed: RefCell<BTreeSet<(u32, [u32; 3])>>,
    /// The same, by TC or by XDP, which leaves it one.
    left_to_tc: RefCell<BTreeSet<(u32, [u32; 3])>>,
    /// Source addresses of devices, by interface index.
    pub device_addresses: BTreeMap<u32, A>,
    /// Tuples for which the node has a socket.
    pub sockets: BTreeSet<Tuple<A>>,
}

impl<A: Address> Default for FamilyState<A> {
    fn default() -> Self {
        Self {
            established: RefCell::default(),
            half_open: RefCell::default(),
            asked_entries: RefCell::default(),
            asked_clients: RefCell::default(),
            capacity: Cell::new(usize::MAX),
            affinity: RefCell::default(),
            fragments: RefCell::default(),
            queued: RefCell::default(),
            traffic: RefCell::default(),
            routes: BTreeMap::new(),
            confirmed: RefCell::default(),
            left_to_tc: RefCell::default(),
            device_addresses: BTreeMap::new(),
            sockets: BTreeSet::new(),
        }
    }
}

impl<A: Address> FamilyState<A> {
    /// A copy of all entries of a table.
    #[must_use]
    pub fn entries(&self, table: Table) -> BTreeMap<Tuple<A>, ConntrackEntry<A>> {
        self.table(table).borrow().clone()
    }

    /// Removes one half-open entry, as the kernel's table does where it is full.
    pub fn evict(&self, tuple: &Tuple<A>) {
        self.half_open.borrow_mut().remove(tuple);
    }

    const fn table(&self, table: Table) -> &RefCell<BTreeMap<Tuple<A>, ConntrackEntry<A>>> {
        match table {
            Table::Established => &self.established,
            Table::HalfOpen => &self.half_open,
        }
    }
}

impl<T> World<T> {
    /// A world of these rows, without flows or routes, at tick 1.
    #[must_use]
    pub fn new(tables: T) -> Self {
        Self::with_backing(tables, ())
    }
}

impl<T, B> World<T, B> {
    /// The same, with `backing` to ask for what it does not hold.
    pub fn with_backing(tables: T, backing: B) -> Self {
        Self {
            tables,
            backing,
            v4: FamilyState::default(),
            v6: FamilyState::default(),
            port_hints: RefCell::default(),
            full_rows: RefCell::default(),
            now: Cell::new(Ticks(1)),
            hands_over: Cell::new(false),
            resolves: Cell::new(true),
            allowed: RefCell::default(),
            device: Cell::new(0),
            is_own_packet: Cell::new(false),
            link: Cell::new([0; 6]),
            released: RefCell::default(),
        }
    }
}

/// A family that a world holds the state of.
pub trait InMemory: Address {
    /// That state.
    fn of<T, B>(world: &World<T, B>) -> &FamilyState<Self>;
}

impl InMemory for V4 {
    fn of<T, B>(world: &World<T, B>) -> &FamilyState<Self> {
        &world.v4
    }
}

impl InMemory for V6 {
    fn of<T, B>(world: &World<T, B>) -> &FamilyState<Self> {
        &world.v6
    }
}
