//! A node in memory: planned contents, connection tables and a few routes, enough for the
//! datapath's own walk to run on. Scenarios, properties and `weir explain` send their packets
//! through it, so none of them has an opinion of its own on what happens to a packet.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::filter::Position;
use lb_common::service::{Frontend, FrontendRow};
use lb_common::settings::Settings;
use lb_ebpf::tables::{Connections, Link, NextHop, Node, Refusal, Route, Table, Tables};

use super::contents::{Contents, Rows};

/// Where a packet's walk takes place.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The rows.
    pub contents: &'a Contents,
    /// The connection tables.
    pub connections: &'a MemoryConnections,
    /// Everything else.
    pub surroundings: &'a Surroundings,
}

/// What the kernel would know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// The time.
    pub now: Ticks,
    /// Destinations, and the interface index of the device that leads there. The longest prefix
    /// counts.
    pub routes: Vec<(IpNet, u32)>,
}

/// Connection tables in memory, without limits.
#[derive(Clone, Default, Debug)]
pub struct MemoryConnections {
    v4: RefCell<Entries<V4>>,
    v6: RefCell<Entries<V6>>,
}

/// The entries of one family.
pub type Entries<A> = BTreeMap<(Table, Tuple<A>), Connection<A>>;

/// Where an address family's entries stand.
pub trait Remembered: Rows {
    /// This family's entries.
    fn entries(connections: &MemoryConnections) -> &RefCell<Entries<Self>>;
}

impl Remembered for V4 {
    fn entries(connections: &MemoryConnections) -> &RefCell<Entries<Self>> {
        &connections.v4
    }
}

impl Remembered for V6 {
    fn entries(connections: &MemoryConnections) -> &RefCell<Entries<Self>> {
        &connections.v6
    }
}

impl MemoryConnections {
    /// The entry of `tuple`, established or half open.
    #[must_use]
    pub fn get<A: Remembered>(&self, tuple: &Tuple<A>) -> Option<Connection<A>> {
        let entries = A::entries(self).borrow();
        let tables = [Table::Established, Table::HalfOpen];
        tables.iter().find_map(|table| entries.get(&(*table, *tuple)).copied())
    }

    /// Puts an entry there, whatever was there.
    pub fn insert<A: Remembered>(&self, table: Table, tuple: Tuple<A>, entry: Connection<A>) {
        A::entries(self).borrow_mut().insert((table, tuple), entry);
    }

    /// The backends that entries of this family refer to.
    #[must_use]
    pub fn backends<A: Remembered>(&self) -> Vec<BackendId> {
        A::entries(self).borrow().values().map(|entry| entry.backend).collect()
    }
}

impl<A: Rows> Tables<A> for World<'_> {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.contents.frontend(frontend)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        Tables::<A>::slot(self.contents, index)
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.contents.backend(id)
    }

    fn may_concern(&self, position: Position) -> bool {
        Tables::<A>::may_concern(self.contents, position)
    }

    fn settings(&self) -> Settings {
        self.contents.settings
    }
}

impl<A: Remembered> Connections<A> for World<'_> {
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let mut entries = A::entries(self.connections).borrow_mut();
        entries.get_mut(&(table, *tuple)).is_some_and(|found| {
            found.last_seen = self.surroundings.now;
            *entry = *found;
            true
        })
    }

    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let entries = A::entries(self.connections).borrow();
        entries.get(&(table, *tuple)).is_some_and(|found| {
            *entry = *found;
            true
        })
    }

    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool {
        let entries = A::entries(self.connections).borrow();
        entries.get(&(table, *tuple)).is_some_and(|found| found.rewritten == *rewritten)
    }

    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal> {
        let mut entries = A::entries(self.connections).borrow_mut();
        if entries.contains_key(&(table, *tuple)) {
            return Err(Refusal::Exists);
        }
        entries.insert((table, *tuple), *entry);
        Ok(())
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State) {
        let mut entries = A::entries(self.connections).borrow_mut();
        if let Some(entry) = entries.get_mut(&(table, *tuple)) {
            entry.state = state;
        }
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        A::entries(self.connections).borrow_mut().remove(&(table, *tuple));
    }

    /// Traffic is not counted here.
    fn count_connection(&self, _: BackendId) {}

    /// Traffic is not counted here.
    fn count_packet(&self, _: BackendId, _: bool, _: u64) {}
}

impl<A: Rows> Node<A> for World<'_> {
    fn now(&self) -> Ticks {
        self.surroundings.now
    }

    fn route(&self, destination: &A) -> Route {
        self.surroundings.route(destination.to_ip())
    }

    fn own_address(&self, device: u32) -> A {
        let row = self.contents.devices.get(&device);
        let addresses = row.map(|row| [row.v4.to_ip(), row.v6.to_ip()]);
        let own = addresses.into_iter().flatten().find_map(A::from_ip);
        own.unwrap_or_else(A::zeroed)
    }

    /// No process of this node has a socket that would be in the way.
    fn has_socket(&self, _: &Tuple<A>) -> bool {
        false
    }
}

impl Surroundings {
    fn route(&self, destination: IpAddr) -> Route {
        let leads = self.routes.iter().filter(|(prefix, _)| prefix.contains(&destination));
        match leads.max_by_key(|(prefix, _)| prefix.prefix_len()) {
            Some((_, device)) => Route::Known(NextHop {
                device: *device,
                mtu: 0,
                link: Some(Link::new([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])),
            }),
            None => Route::Unreachable,
        }
    }
}
