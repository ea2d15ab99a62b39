//! This node: the addresses that serve node ports, its zone, the rows of its devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::address::{Address, V4, V6};
use lb_common::device::Device;
use lb_common::maps;

use super::eligible::NodeTopology;
use super::omissions::{Context, Omissions};
use super::settings::{includes, localhost};
use crate::model::{Cluster, DeviceRole, LocalNode, NodeDevice};

/// This node's addresses of family `A` that serve node ports, each once. Its loopback address is among them only where
/// processes' sockets are balanced, which alone can get there.
pub(super) fn nodeport_addresses<A: Address>(context: &Context<'_>) -> Vec<A> {
    let Context { cluster, local_node, settings, .. } = *context;
    let which = &settings.nodeport_addresses;
    let ranges = which.ranges(A::FAMILY);
    let own = local_node.devices.iter().flat_map(|device| &device.addresses).copied();
    let within = own.filter(|ip| !ip.is_loopback() && includes(ranges.as_deref(), *ip));
    let mut addresses: Vec<A> = within.filter_map(A::from_ip).collect();
    if which.primary {
        addresses.extend(primary::<A>(cluster, local_node));
    }
    if which.has_localhost(A::FAMILY) && settings.sockets.namespace != 0 {
        addresses.extend(A::from_ip(localhost(A::FAMILY)));
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// This node's addresses of both families that serve node ports.
pub(super) fn all_nodeport_addresses(context: &Context<'_>) -> BTreeSet<IpAddr> {
    let (v4, v6) = (nodeport_addresses::<V4>(context), nodeport_addresses::<V6>(context));
    let v4 = v4.iter().map(Address::to_ip);
    v4.chain(v6.iter().map(Address::to_ip)).collect()
}

/// Whether two states of this node have the same addresses, the same ones of which are primary and those that serve
/// node ports, so that what they differ in is the rows of devices alone.
#[must_use]
pub fn has_same_addresses(cluster: &Cluster, one: &LocalNode, other: &LocalNode) -> bool {
    let addresses = |node: &LocalNode| {
        let within = node.devices.iter().flat_map(|device| &device.addresses).copied();
        let primary = (primary::<V4>(cluster, node), primary::<V6>(cluster, node));
        (within.collect::<BTreeSet<IpAddr>>(), primary, node.name.clone())
    };
    addresses(one) == addresses(other)
}

/// The rows of the node's devices with a role, `capacity` at most, network devices before pods'. A device without
/// an address of its own sends from the node's primary address, as the kernel does.
pub(super) fn devices(
    cluster: &Cluster,
    local_node: &LocalNode,
    capacity: usize,
) -> BTreeMap<u32, Device> {
    let (v4, v6) = (primary::<V4>(cluster, local_node), primary::<V6>(cluster, local_node));
    let row = |device: &NodeDevice| Device {
        v4: first(device).or(v4).unwrap_or(V4([0; 4])),
        v6: first(device).or(v6).unwrap_or(V6([0; 16])),
        flags: flags(device),
        link: device.link,
    };
    let (network, pods): (Vec<_>, Vec<_>) = with_role(local_node).partition(is_network);
    let devices = network.into_iter().chain(pods).take(capacity);
    devices.map(|device| (device.index, row(device))).collect()
}

fn flags(device: &NodeDevice) -> u16 {
    let xdp_sends = if device.xdp_sends { Device::XDP_SENDS } else { 0 };
    let link_header = if device.has_link_header { 0 } else { Device::NO_LINK_HEADER };
    xdp_sends | link_header
}

/// The node's name and zone.
pub(super) fn topology<'a>(cluster: &'a Cluster, local_node: &'a LocalNode) -> NodeTopology<'a> {
    let node = cluster.nodes.get(&local_node.name);
    NodeTopology { node: &local_node.name, zone: node.and_then(|node| node.zone.as_deref()) }
}

/// This node's primary address of family `A`.
pub(super) fn primary<A: Address>(cluster: &Cluster, local_node: &LocalNode) -> Option<A> {
    let node = cluster.nodes.get(&local_node.name);
    let of_object = node.and_then(|node| node.addresses.iter().find_map(|ip| A::from_ip(*ip)));
    of_object.or_else(|| local_node.devices.iter().filter(is_network).find_map(first))
}

fn is_network(device: &&NodeDevice) -> bool {
    device.role == Some(DeviceRole::Network)
}

/// The devices that have programs.
fn with_role(local_node: &LocalNode) -> impl Iterator<Item = &NodeDevice> {
    local_node.devices.iter().filter(|device| device.role.is_some())
}

fn first<A: Address>(device: &NodeDevice) -> Option<A> {
    device.addresses.iter().find_map(|ip| A::from_ip(*ip))
}

/// Every address of this node, whatever device has it.
pub(super) fn own_addresses(local_node: &LocalNode) -> BTreeSet<IpAddr> {
    local_node.devices.iter().flat_map(|device| &device.addresses).copied().collect()
}

/// The rows of `DEVICES`, as many as the map can hold.
pub(super) fn device_rows(
    context: &Context<'_>,
    omissions: &mut Omissions,
) -> BTreeMap<u32, Device> {
    let capacity = context.settings.capacities.entries(&maps::DEVICES);
    let devices = devices(context.cluster, context.local_node, capacity as usize);
    let wanted = with_role(context.local_node).count();
    if devices.len() < wanted {
        omissions.add_full_map(context, &maps::DEVICES, wanted as u64);
    }
    devices
}
