//! The live maps as a world to walk in: conntrack and affinity entries are read from the kernel at their
//! first lookup, and from then on changed in memory alone.

use std::cell::RefCell;

use lb_common::address::{Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::conntrack::ConntrackEntry;
use lb_common::device::Device;
use lb_ebpf::in_memory::{Backing, InMemory, World};
use lb_ebpf::world::{FibResult, NextHop, Table};

use super::node::NodeView;
use crate::host::devices::RouteTarget;
use crate::maps::affinity::KernelClients;
use crate::maps::conntrack_gc::{FlowTables, KernelFlows, now};
use crate::maps::contents::InContents;
use crate::maps::{Contents, MapError};

/// The kernel's tables as they are now; a walk does not change them.
pub type LiveWorld<'a, N> = World<Contents, KernelState<'a, N>>;

/// The kernel's conntrack tables, affinity tables and routes.
pub struct KernelState<'a, N> {
    flows: &'a KernelFlows,
    clients: &'a KernelClients,
    devices: std::collections::BTreeMap<u32, Device>,
    node: &'a N,
    /// Why an entry could not be read.
    failure: RefCell<Option<MapError>>,
}

/// The world of these rows, these flows and this node.
pub fn live_world<'a, N>(
    contents: Contents,
    (flows, clients): (&'a KernelFlows, &'a KernelClients),
    node: &'a N,
) -> LiveWorld<'a, N> {
    let devices = contents.devices.clone();
    let failure = RefCell::default();
    let world =
        World::with_backing(contents, KernelState { flows, clients, devices, node, failure });
    world.now.set(now());
    world
}

impl<N> KernelState<'_, N> {
    /// An entry that could not be read.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn failure(&self) -> Result<(), MapError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn read<T>(&self, read: Result<Option<T>, MapError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failure.replace(Some(error));
            None
        })
    }
}

/// A family whose entries can be read.
pub trait InKernel: InMemory + InContents {
    /// The entry of `tuple`.
    fn entry(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<ConntrackEntry<Self>>, MapError>;
    /// The affinity of `client`.
    fn affinity(
        clients: &KernelClients,
        client: &Client<Self>,
    ) -> Result<Option<Affinity>, MapError>;
    /// The source address of a device, of this family.
    fn of_device(device: &Device) -> Self;
}

impl InKernel for V4 {
    fn entry(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<ConntrackEntry<Self>>, MapError> {
        flows.v4().find(table, tuple)
    }

    fn affinity(
        clients: &KernelClients,
        client: &Client<Self>,
    ) -> Result<Option<Affinity>, MapError> {
        clients.v4(client)
    }

    fn of_device(device: &Device) -> Self {
        device.v4
    }
}

impl InKernel for V6 {
    fn entry(
        flows: &KernelFlows,
        table: Table,
        tuple: &Tuple<Self>,
    ) -> Result<Option<ConntrackEntry<Self>>, MapError> {
        flows.v6().find(table, tuple)
    }

    fn affinity(
        clients: &KernelClients,
        client: &Client<Self>,
    ) -> Result<Option<Affinity>, MapError> {
        clients.v6(client)
    }

    fn of_device(device: &Device) -> Self {
        device.v6
    }
}

impl<A: InKernel, N: NodeView> Backing<A> for KernelState<'_, N> {
    fn entry(&self, table: Table, tuple: &Tuple<A>) -> Option<ConntrackEntry<A>> {
        self.read(A::entry(self.flows, table, tuple))
    }

    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        self.read(A::affinity(self.clients, client))
    }

    /// Like the datapath's, this finds no route to the node itself.
    fn fib_lookup(&self, destination: &A) -> Option<FibResult> {
        Some(match self.node.route(destination.to_ip()) {
            RouteTarget::Device { index, .. } => {
                FibResult::Found(NextHop { device: index, mtu: 0, link: None })
            }
            RouteTarget::Local | RouteTarget::Unreachable => FibResult::Unreachable,
        })
    }

    fn source_address(&self, destination: &A) -> Option<A> {
        match self.node.route(destination.to_ip()) {
            RouteTarget::Device { source, .. } => source.and_then(A::from_ip),
            RouteTarget::Local | RouteTarget::Unreachable => None,
        }
    }

    fn device_address(&self, device: u32) -> Option<A> {
        self.devices.get(&device).map(A::of_device)
    }
}
