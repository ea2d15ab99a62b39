//! Which devices face pods, which face the network, and why: a decision on plain facts, so that it
//! can be tested without a device.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::link::{Link, LinkLayer};
use crate::config::DeviceNames;
use crate::model::{DeviceRole, NodeDevice};

/// A device, what it was found to lead to, and the reason in words for `weir check`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// What the kernel says of it.
    pub link: Link,
    /// What it leads to; `None` where Weir leaves it alone.
    pub role: Option<DeviceRole>,
    /// Why.
    pub reason: &'static str,
    /// The link address of frames for this node, as in [`NodeDevice::link`].
    pub destination: [u8; 6],
}

impl Device {
    /// The device as the plan sees it; `None` for one that Weir leaves alone.
    #[must_use]
    pub fn to_node_device(&self, xdp_sends: bool) -> Option<NodeDevice> {
        Some(NodeDevice {
            index: self.link.index,
            name: self.link.name.clone(),
            role: self.role?,
            addresses: self.link.addresses.iter().map(IpNet::addr).collect(),
            xdp_sends,
            has_link_header: self.link.link_layer == LinkLayer::Ethernet,
            link: self.destination,
        })
    }
}

/// What the flags say about devices; `None` leaves it to what they look like.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selection {
    /// `--network-devices`
    pub network: Option<DeviceNames>,
    /// `--pod-devices`
    pub pods: Option<DeviceNames>,
}

impl Selection {
    /// The patterns that fit no device of `links`, each after its flag.
    #[must_use]
    pub fn unmatched(&self, links: &[Link]) -> Vec<(&'static str, String)> {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        [("--network-devices", &self.network), ("--pod-devices", &self.pods)]
            .into_iter()
            .filter_map(|(flag, devices)| Some((flag, devices.as_ref()?)))
            .flat_map(|(flag, devices)| {
                devices.unmatched(&names).map(move |pattern| (flag, pattern.to_owned()))
            })
            .collect()
    }
}

/// Decides about every device.
#[must_use]
pub fn classify(links: &[Link], selection: &Selection) -> Vec<Device> {
    let pods: BTreeSet<u32> = links
        .iter()
        .filter(|link| {
            named(link, selection).unwrap_or_else(|| found(link, &[])).0 == Some(DeviceRole::Pod)
        })
        .map(|link| link.index)
        .collect();
    links
        .iter()
        .map(|link| {
            let ports: Vec<bool> = links
                .iter()
                .filter(|port| port.port_of == Some(link.index))
                .map(|port| pods.contains(&port.index))
                .collect();
            let (role, reason) = named(link, selection).unwrap_or_else(|| found(link, &ports));
            Device { link: link.clone(), role, reason, destination: link.destination(links) }
        })
        .collect()
}

type Decision = (Option<DeviceRole>, &'static str);

/// What the flags decide, if they decide about `link`.
fn named(link: &Link, selection: &Selection) -> Option<Decision> {
    let fits = |names: &Option<DeviceNames>| names.as_ref().is_some_and(|n| n.contains(&link.name));
    let chosen = if fits(&selection.network) {
        (Some(DeviceRole::Network), "named by --network-devices")
    } else if fits(&selection.pods) {
        (Some(DeviceRole::Pod), "named by --pod-devices")
    } else {
        let (role, _) = found(link, &[]);
        return match role {
            Some(DeviceRole::Network) if selection.network.is_some() => {
                Some((None, "not among --network-devices"))
            }
            Some(DeviceRole::Pod) if selection.pods.is_some() => {
                Some((None, "not among --pod-devices"))
            }
            Some(_) | None => None,
        };
    };
    Some(if link.is_loopback {
        (None, "the loopback device: its packets never leave the node")
    } else {
        if_readable(link, chosen)
    })
}

/// What was decided about `link`, unless the programs cannot read its packets.
fn if_readable(link: &Link, decided: Decision) -> Decision {
    match (decided.0, link.link_layer) {
        (Some(DeviceRole::Pod), LinkLayer::None) => {
            (None, "its packets have no Ethernet header, which is not yet balanced for pods")
        }
        (Some(_), LinkLayer::Other) => (None, "its link header is not Ethernet's: not balanced"),
        _ => decided,
    }
}

/// What a device leads to by its kind; `ports` says of each port of a bridge whether it faces a pod.
fn found(link: &Link, ports: &[bool]) -> Decision {
    if link.is_loopback {
        return (None, "the loopback device: its packets never leave the node");
    }
    let role = match link.kind.as_str() {
        "veth" | "netkit" => pair(link),
        "bridge" => bridge(link, ports),
        "vxlan" | "geneve" | "gretap" | "ip6gretap" | "ipip" | "sit" | "ip6tnl" | "gre"
        | "ip6gre" | "wireguard" => (Some(DeviceRole::Network), "a tunnel to other nodes"),
        "dummy" | "ifb" | "nlmon" | "vrf" => (None, "nothing arrives by such a device"),
        _ if link.has_default_route => {
            (Some(DeviceRole::Network), "the default route leaves by it")
        }
        _ if !link.addresses.is_empty() => {
            (Some(DeviceRole::Network), "it has an address of the node")
        }
        _ if link.port_of.is_some() => (None, "a port of another device that is taken instead"),
        _ => (None, "it has neither an address nor the default route"),
    };
    if_readable(link, role)
}

/// One end of a pair: it leads to a pod, unless this node is itself a container and the pair is its
/// way out. Plugins that give the host's end of a pod's pair an address give it a single one
/// (`/32`, `/128`); the way out has a subnet.
fn pair(link: &Link) -> Decision {
    let has_subnet = link.addresses.iter().any(|a| a.prefix_len() < a.max_prefix_len());
    if link.has_default_route {
        (Some(DeviceRole::Network), "the default route leaves by it")
    } else if has_subnet {
        (Some(DeviceRole::Network), "it has a subnet of the node")
    } else if link.has_peer_in_other_netns {
        (Some(DeviceRole::Pod), "its peer is in another network namespace")
    } else {
        (None, "both ends of the pair are in this network namespace")
    }
}

/// A bridge: that of a container network has the pods' gateway address, which does not make it a
/// way out of the node; its ports are where pods' packets are seen.
fn bridge(link: &Link, ports: &[bool]) -> Decision {
    let leads_out = ports.iter().any(|is_pod| !is_pod);
    if link.has_default_route {
        (Some(DeviceRole::Network), "the default route leaves by it")
    } else if leads_out && !link.addresses.is_empty() {
        (Some(DeviceRole::Network), "it has an address of the node and a port that leads out")
    } else {
        (None, "a bridge of pods: its ports are taken instead")
    }
}

#[cfg(test)]
mod tests;
