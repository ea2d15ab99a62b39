//! The live maps as a world to walk in: entries are read from the kernel's connection tables when
//! they are first asked for, and from then on kept, changed and removed in memory alone.

use std::cell::RefCell;
use std::collections::BTreeSet;

use lb_common::address::{Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::device::Device;
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::service::{AddressRow, Frontend, FrontendRow};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;
use lb_ebpf::memory::{InMemory, World};
use lb_ebpf::packet::{Packet, Unwritable};
use lb_ebpf::tables::{Connections, Memories, NextHop, Node, Refusal, Route, Table, Tables};

use super::node::Around;
use crate::maps::connections::{FlowTables, KernelFlows, now};
use crate::maps::contents::Rows;
use crate::maps::memories::KernelClients;
use crate::maps::{Contents, MapError};
use crate::programs::devices::Way;

/// What is in the kernel now, to be walked in without changing it.
pub struct Live<'a, N> {
    memory: World<Contents>,
    flows: &'a KernelFlows,
    clients: &'a KernelClients,
    node: &'a N,
    /// Entries that have been read, whether they were there or not.
    read: RefCell<BTreeSet<(Table, String)>>,
    /// Clients that have been looked for.
    asked: RefCell<BTreeSet<String>>,
    /// Why one could not be.
    failure: RefCell<Option<MapError>>,
}

/// A family whose entries can be read.
pub trait Stored: InMemory + Rows {
    /// The entry of `tuple` in the kernel's table.
    fn stored(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<Connection<Self>>, MapError>;
    /// What `client` got last, in the kernel's table.
    fn had(clients: &KernelClients, client: &Client<Self>) -> Result<Option<Affinity>, MapError>;
    /// The address of this family that a device sends from.
    fn of_device(device: &Device) -> Self;
}

impl Stored for V4 {
    fn stored(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<Connection<Self>>, MapError> {
        flows.v4().find(table, tuple)
    }

    fn had(clients: &KernelClients, client: &Client<Self>) -> Result<Option<Affinity>, MapError> {
        clients.v4(client)
    }

    fn of_device(device: &Device) -> Self {
        device.v4
    }
}

impl Stored for V6 {
    fn stored(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<Connection<Self>>, MapError> {
        flows.v6().find(table, tuple)
    }

    fn had(clients: &KernelClients, client: &Client<Self>) -> Result<Option<Affinity>, MapError> {
        clients.v6(client)
    }

    fn of_device(device: &Device) -> Self {
        device.v6
    }
}

impl<'a, N> Live<'a, N> {
    /// The world of these rows, these flows and this node.
    pub fn new(
        contents: Contents,
        (flows, clients): (&'a KernelFlows, &'a KernelClients),
        node: &'a N,
    ) -> Self {
        Self {
            memory: World::new(contents),
            flows,
            clients,
            node,
            read: RefCell::default(),
            asked: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// Tells of an entry that could not be read.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub fn failure(&self) -> Result<(), MapError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// The memory, which knows of `tuple` what the kernel does.
    fn with<A: Stored>(&self, table: Table, tuple: &Tuple<A>) -> &World<Contents> {
        if self.read.borrow_mut().insert((table, tuple.to_string())) {
            match A::stored(self.flows, table, tuple) {
                Ok(Some(entry)) => {
                    let added = self.memory.add(table, tuple, &entry);
                    debug_assert!(added.is_ok(), "nothing else adds before it reads");
                }
                Ok(None) => {}
                Err(error) => drop(self.failure.replace(Some(error))),
            }
        }
        &self.memory
    }

    /// The memory, which knows of `client` what the kernel does.
    fn with_client<A: Stored>(&self, client: &Client<A>) -> &World<Contents> {
        let key = format!("{} {}", client.address, client.service);
        if self.asked.borrow_mut().insert(key) {
            match A::had(self.clients, client) {
                Ok(Some(affinity)) => {
                    self.memory.keep_affinity(client, &affinity, true);
                }
                Ok(None) => {}
                Err(error) => drop(self.failure.replace(Some(error))),
            }
        }
        &self.memory
    }
}

impl<A: Stored, N> Tables<A> for Live<'_, N> {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.memory.frontend(frontend)
    }

    fn address(&self, address: &A) -> Option<AddressRow> {
        self.memory.address(address)
    }

    fn may_be_service(&self, address: &A) -> bool {
        self.memory.may_be_service(address)
    }

    fn allows(&self, client: &SourceRange<A>) -> bool {
        self.memory.allows(client)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        Tables::<A>::slot(&self.memory, index)
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.memory.backend(id)
    }

    fn may_concern(&self, position: Position) -> bool {
        Tables::<A>::may_concern(&self.memory, position)
    }

    fn settings(&self) -> Settings {
        Tables::<A>::settings(&self.memory)
    }
}

impl<A: Stored, N> Connections<A> for Live<'_, N> {
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        self.with(table, tuple).see(table, tuple, entry)
    }

    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        self.with(table, tuple).find(table, tuple, entry)
    }

    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool {
        self.with(table, tuple).leads_to(table, tuple, rewritten)
    }

    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal> {
        self.with(table, tuple).add(table, tuple, entry)
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State) {
        self.with(table, tuple).set_state(table, tuple, state);
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        self.with(table, tuple).remove(table, tuple);
    }

    /// A packet that is not sent is not counted.
    fn count_connection(&self, _: BackendId) {}

    /// As above.
    fn count_packet(&self, _: BackendId, _: bool, _: u64) {}
}

impl<A: Stored, N> Memories<A> for Live<'_, N> {
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        self.with_client(client).affinity(client)
    }

    fn keep_affinity(&self, client: &Client<A>, affinity: &Affinity, instead: bool) -> bool {
        self.with_client(client).keep_affinity(client, affinity, instead)
    }

    fn first_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        self.memory.first_fragment(packet, first)
    }

    fn forget_fragment(&self, packet: &Fragmented<A>) {
        self.memory.forget_fragment(packet);
    }

    fn hold<P: Packet + ?Sized>(&self, held: &HeldFragment<A>, frame: &mut P) -> bool {
        self.memory.hold(held, frame)
    }

    fn release<P: Packet + ?Sized>(
        &self,
        held: &mut HeldFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), Unwritable> {
        self.memory.release(held, count, frame)
    }

    fn keep_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        self.memory.keep_fragment(packet, first);
    }
}

impl<A: Stored, N: Around> Node<A> for Live<'_, N> {
    fn now(&self) -> Ticks {
        now()
    }

    /// Like the datapath's, this knows no way to the node itself.
    fn route(&self, destination: &A) -> Route {
        match self.node.way(destination.to_ip()) {
            Way::Out(device) => Route::Known(NextHop { device, mtu: 0, link: None }),
            Way::Here | Way::None => Route::Unreachable,
        }
    }

    fn own_address(&self, device: u32) -> A {
        let row = self.memory.tables.devices.get(&device);
        row.map_or_else(A::zeroed, A::of_device)
    }

    fn here(&self) -> A {
        self.memory.here()
    }

    /// Assumed, and the story says so.
    fn may_answer(&self) -> bool {
        true
    }

    /// Assumed, and the story says so.
    fn has_socket(&self, _: &Tuple<A>) -> bool {
        false
    }
}
