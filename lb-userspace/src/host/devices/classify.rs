//! Which devices face pods, which face the network, and why: a decision on plain facts, so that it
//! can be tested without a device.

use ipnet::IpNet;

use super::link::{Link, LinkLayer};
use crate::config::DeviceNames;
use crate::model::{DeviceRole, NodeDevice};

/// The devices on which kube-proxy's mode `ipvs` and kube-router have the addresses of all Services, and leave them when
/// they go: they are not the node's.
pub const IPVS_DEVICES: [&str; 2] = ["kube-ipvs0", "kube-dummy-if"];

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
    /// A port of it is a veth.
    pub is_over_veth: bool,
}

impl Device {
    /// The device as the plan sees it.
    #[must_use]
    pub fn to_node_device(&self, xdp_sends: bool) -> NodeDevice {
        let is_ipvs = IPVS_DEVICES.contains(&self.link.name.as_str());
        let addresses = self.link.addresses.iter().filter(|_| !is_ipvs);
        NodeDevice {
            index: self.link.index,
            name: self.link.name.clone(),
            role: self.role,
            addresses: addresses.map(IpNet::addr).collect(),
            default_routes: self.link.main_default_routes,
            xdp_sends,
            has_link_header: self.link.link_layer == LinkLayer::Ethernet,
            link: self.destination,
        }
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
    let all = Links(links);
    links
        .iter()
        .map(|link| {
            let decided = named(link, all, selection);
            let (role, reason) = decided.unwrap_or_else(|| found(link, all, selection));
            let destination = link.destination(links);
            let is_over_veth = all.ports(link).any(|port| port.kind == "veth");
            Device { link: link.clone(), role, reason, destination, is_over_veth }
        })
        .collect()
}

/// All devices, to look around from one of them.
#[derive(Clone, Copy)]
struct Links<'a>(&'a [Link]);

impl<'a> Links<'a> {
    /// The ports of a bridge or bond.
    fn ports(self, link: &Link) -> impl Iterator<Item = &'a Link> + use<'a> {
        let index = link.index;
        self.0.iter().filter(move |port| port.port_of == Some(index))
    }

    /// What it is a port of.
    fn upper(self, link: &Link) -> Option<&'a Link> {
        self.0.iter().find(|upper| Some(upper.index) == link.port_of)
    }

    /// Whether packets of the node's own reach it through another device, which is taken instead: through a bond, a VLAN, or
    /// the bridge that the default route leaves by, where it is that bridge's one port.
    fn carries_another(self, link: &Link) -> bool {
        let is_upon = self.0.iter().any(|upper| upper.upon == Some(link.index));
        let is_port = self.upper(link).is_some_and(|upper| match upper.kind.as_str() {
            "bond" | "team" => true,
            "bridge" => upper.default_routes.is_any() && self.ports(upper).count() == 1,
            _ => false,
        });
        is_upon || is_port
    }
}

type Decision = (Option<DeviceRole>, &'static str);

/// What the flags decide, if they decide about `link`.
fn named(link: &Link, all: Links<'_>, selection: &Selection) -> Option<Decision> {
    let fits = |names: &Option<DeviceNames>| names.as_ref().is_some_and(|n| n.contains(&link.name));
    let chosen = if fits(&selection.network) {
        (Some(DeviceRole::Network), "named by --network-devices")
    } else if fits(&selection.pods) {
        (Some(DeviceRole::Pod), "named by --pod-devices")
    } else {
        let (role, _) = found(link, all, selection);
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

/// What a device leads to by its kind and what is around it.
fn found(link: &Link, all: Links<'_>, selection: &Selection) -> Decision {
    if link.is_loopback {
        return (None, "the loopback device: its packets never leave the node");
    }
    let role = match link.kind.as_str() {
        "veth" | "netkit" => pair(link, all),
        "bridge" => bridge(link, all, selection),
        "vxlan" | "geneve" | "gretap" | "ip6gretap" | "ipip" | "sit" | "ip6tnl" | "gre"
        | "ip6gre" | "wireguard" => (Some(DeviceRole::Network), "a tunnel to other nodes"),
        "dummy" | "ifb" | "nlmon" | "vrf" => (None, "nothing arrives by such a device"),
        _ if link.default_routes.is_any() => {
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
fn pair(link: &Link, all: Links<'_>) -> Decision {
    let has_subnet = link.addresses.iter().any(|a| a.prefix_len() < a.max_prefix_len());
    if link.default_routes.is_any() {
        (Some(DeviceRole::Network), "the default route leaves by it")
    } else if has_subnet {
        (Some(DeviceRole::Network), "it has a subnet of the node")
    } else if all.carries_another(link) {
        (None, "another device is upon it, which is taken instead")
    } else if link.has_peer_in_other_netns {
        (Some(DeviceRole::Pod), "its peer is in another network namespace")
    } else {
        (None, "both ends of the pair are in this network namespace")
    }
}

/// A bridge: that of a container network has the pods' gateway address, which does not make it a
/// way out of the node; its ports are where pods' packets are seen.
fn bridge(link: &Link, all: Links<'_>, selection: &Selection) -> Decision {
    let faces_pod = |port| {
        let decided = named(port, all, selection);
        decided.unwrap_or_else(|| found(port, all, selection)).0 == Some(DeviceRole::Pod)
    };
    let leads_out = all.ports(link).any(|port| !faces_pod(port));
    if link.default_routes.is_any() {
        (Some(DeviceRole::Network), "the default route leaves by it")
    } else if leads_out && !link.addresses.is_empty() {
        (Some(DeviceRole::Network), "it has an address of the node and a port that leads out")
    } else {
        (None, "a bridge of pods: its ports are taken instead")
    }
}

#[cfg(test)]
mod tests;
