//! What this node's own objects and devices come to: the addresses of its node ports, the rows of
//! its devices.

use std::collections::BTreeMap;

use ipnet::IpNet;
use lb_common::address::{Address, Family, V4, V6};
use lb_common::device::Device;

use super::NodePortAddresses;
use super::eligible::Place;
use crate::model::{Cluster, DeviceRole, LocalNode, NodeDevice};

/// This node's addresses of family `A` that answer on node ports, each once.
pub(super) fn nodeport_addresses<A: Address>(
    cluster: &Cluster,
    here: &LocalNode,
    which: &NodePortAddresses,
) -> Vec<A> {
    let mut addresses = match which {
        NodePortAddresses::Primary => Vec::from_iter(primary(cluster, here)),
        NodePortAddresses::Within(ranges) => within(here, ranges),
    };
    addresses.retain(|address: &A| !address.to_ip().is_loopback());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The rows of the node's devices, `room` at most, network devices before pods'. One without an address of its own sends from the node's primary one, as
/// the kernel would.
pub(super) fn devices(cluster: &Cluster, here: &LocalNode, room: usize) -> BTreeMap<u32, Device> {
    let (v4, v6) = (primary::<V4>(cluster, here), primary::<V6>(cluster, here));
    let row = |device: &NodeDevice| Device {
        v4: first(device).or(v4).unwrap_or(V4([0; 4])),
        v6: first(device).or(v6).unwrap_or(V6([0; 16])),
        flags: if device.xdp_sends { Device::XDP_SENDS } else { 0 },
        mtu: u16::try_from(device.mtu).unwrap_or(u16::MAX),
    };
    let (network, pods): (Vec<_>, Vec<_>) = here.devices.iter().partition(is_network);
    let devices = network.into_iter().chain(pods).take(room);
    devices.map(|device| (device.index, row(device))).collect()
}

/// Where this node is, as far as topology goes.
pub(super) fn place<'a>(cluster: &'a Cluster, here: &'a LocalNode) -> Place<'a> {
    let node = cluster.nodes.get(&here.name);
    Place { node: &here.name, zone: node.and_then(|node| node.zone.as_deref()) }
}

/// This node's primary address of family `A`.
pub(super) fn primary<A: Address>(cluster: &Cluster, here: &LocalNode) -> Option<A> {
    let node = cluster.nodes.get(&here.name);
    let told = node.and_then(|node| node.addresses.iter().find_map(|ip| A::from_ip(*ip)));
    told.or_else(|| here.devices.iter().filter(is_network).find_map(first))
}

fn is_network(device: &&NodeDevice) -> bool {
    device.role == DeviceRole::Network
}

fn first<A: Address>(device: &NodeDevice) -> Option<A> {
    device.addresses.iter().find_map(|ip| A::from_ip(*ip))
}

fn within<A: Address>(here: &LocalNode, ranges: &[IpNet]) -> Vec<A> {
    let family = |range: &&IpNet| Family::of(&range.addr()) == A::FAMILY;
    let ranges: Vec<&IpNet> = ranges.iter().filter(family).collect();
    let all = here.devices.iter().flat_map(|device| &device.addresses);
    let inside =
        all.filter(|ip| ranges.is_empty() || ranges.iter().any(|range| range.contains(*ip)));
    inside.filter_map(|ip| A::from_ip(*ip)).collect()
}
