//! Which devices face pods, which face the network, and why: a decision on plain facts, so that it
//! can be tested without a device.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::link::Link;
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
    } else if link.is_ethernet {
        chosen
    } else {
        (None, "named by a flag, but its packets have no Ethernet header: not yet balanced")
    })
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
    match role {
        (Some(_), _) if !link.is_ethernet => {
            (None, "its packets have no Ethernet header: not yet balanced")
        }
        decided => decided,
    }
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
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link { index, name: name.into(), kind: kind.into(), is_ethernet: true, ..Link::default() }
    }

    fn with_address(mut link: Link, address: &str) -> Link {
        link.addresses.push(address.parse().unwrap());
        link
    }

    fn pod(index: u32, name: &str) -> Link {
        Link { has_peer_in_other_netns: true, ..link(index, name, "veth") }
    }

    fn roles(links: &[Link], selection: &Selection) -> Vec<Option<DeviceRole>> {
        classify(links, selection).iter().map(|d| d.role).collect()
    }

    fn network(names: &str) -> Selection {
        Selection { network: Some(names.parse().unwrap()), pods: None }
    }

    #[test]
    fn the_loopback_device_is_never_taken_not_even_by_name() {
        let lo = Link { is_loopback: true, ..with_address(link(1, "lo", ""), "10.0.0.1/32") };
        assert_eq!(roles(std::slice::from_ref(&lo), &Selection::default()), [None]);
        assert_eq!(roles(&[lo], &network("*")), [None]);
    }

    #[test]
    fn hardware_with_an_address_or_the_default_route_faces_the_network() {
        let addressed = with_address(link(2, "eth0", ""), "192.0.2.1/24");
        let routed = Link { has_default_route: true, ..link(3, "eth1", "") };
        let idle = link(4, "eth2", "");
        assert_eq!(
            roles(&[addressed, routed, idle], &Selection::default()),
            [Some(DeviceRole::Network), Some(DeviceRole::Network), None]
        );
    }

    #[test]
    fn a_pair_into_another_namespace_faces_a_pod_even_with_a_gateway_address() {
        let gateway = with_address(pod(6, "veth1"), "10.244.0.1/32");
        let gateway = with_address(gateway, "fd00:10::1/128");
        assert_eq!(
            roles(&[pod(5, "veth0"), gateway, link(7, "veth2", "veth")], &Selection::default()),
            [Some(DeviceRole::Pod), Some(DeviceRole::Pod), None]
        );
    }

    #[test]
    fn the_way_out_of_a_node_that_is_a_container_faces_the_network() {
        let subnet = with_address(pod(5, "eth0"), "172.18.0.2/16");
        let routed = Link { has_default_route: true, ..pod(6, "eth1") };
        assert_eq!(
            roles(&[subnet, routed], &Selection::default()),
            [Some(DeviceRole::Network), Some(DeviceRole::Network)]
        );
    }

    #[test]
    fn a_bridge_of_pods_is_left_alone_and_its_ports_face_pods() {
        let cni0 = with_address(link(5, "cni0", "bridge"), "10.244.0.1/24");
        let port = Link { port_of: Some(5), ..pod(6, "veth0") };
        assert_eq!(
            roles(&[cni0.clone(), port], &Selection::default()),
            [None, Some(DeviceRole::Pod)]
        );
        assert_eq!(roles(&[cni0], &Selection::default()), [None]);
    }

    #[test]
    fn a_bridge_over_hardware_faces_the_network() {
        let br0 = with_address(link(5, "br0", "bridge"), "192.0.2.1/24");
        let port = Link { port_of: Some(5), ..link(2, "eth0", "") };
        assert_eq!(roles(&[br0, port], &Selection::default()), [Some(DeviceRole::Network), None]);
    }

    #[test]
    fn tunnels_with_ethernet_frames_face_the_network() {
        let wireguard = Link { is_ethernet: false, ..link(8, "wg0", "wireguard") };
        assert_eq!(
            roles(&[link(7, "flannel.1", "vxlan"), wireguard], &Selection::default()),
            [Some(DeviceRole::Network), None]
        );
    }

    #[test]
    fn a_flag_replaces_what_would_have_been_found_for_its_role_alone() {
        let links = [
            with_address(link(2, "eth0", ""), "192.0.2.1/24"),
            with_address(link(3, "eth1", ""), "198.51.100.1/24"),
            pod(4, "veth0"),
        ];
        let selection = network("eth1,wan*");
        assert_eq!(
            roles(&links, &selection),
            [None, Some(DeviceRole::Network), Some(DeviceRole::Pod)]
        );
        assert_eq!(selection.unmatched(&links), [("--network-devices", "wan*".into())]);
    }
}
