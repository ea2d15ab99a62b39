//! A lab's links: devices, addresses and routes, as batches of `ip` commands, one per namespace.

pub(super) mod tun;
pub(super) mod uplink;

use anyhow::Result;

use self::tun::{DEVICE, Tunnel};
use super::addresses::Addresses;
use super::addresses::{self, CLIENT, CLIENT_GATEWAY, NODE_GATEWAY};
use super::namespace::{Namespace, ip, veth_pair};
use super::pods;
use super::shape::{Attachment, PodRouting};
use super::topology::{Lab, Node};

/// Makes the namespaces of `lab` and connects them.
pub(super) fn create(lab: &mut Lab) -> Result<()> {
    make_namespaces(lab)?;
    connect(lab)?;
    if lab.shape.pod_routing == PodRouting::Tun {
        lab.tunnel = Some(Tunnel::between([&lab.node1.namespace, &lab.node2.namespace])?);
    }
    let lab = &*lab;
    lab.client.ip(&client())?;
    lab.network.ip(&network(lab))?;
    for (node, other) in [(&lab.node1, &lab.node2), (&lab.node2, &lab.node1)] {
        node.namespace.ip(&self::node(lab, node, other))?;
        node.pods.iter().try_for_each(|pod| pods::attach(lab.shape, node, pod))?;
    }
    if lab.shape.pod_routing == PodRouting::Overlay {
        forward_overlay(&lab.node1, &lab.node2)?;
        forward_overlay(&lab.node2, &lab.node1)?;
    }
    if lab.shape.pod_routing == PodRouting::WireGuard {
        encrypt(lab)?;
    }
    if !lab.shape.offloads {
        lab.namespaces().try_for_each(disable_offloads)?;
    }
    Ok(())
}

fn make_namespaces(lab: &Lab) -> Result<()> {
    let namespaces: Vec<_> = lab.namespaces().collect();
    make(&namespaces)?;
    for router in [&lab.network, &lab.node1.namespace, &lab.node2.namespace] {
        router.set(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        // Forwarding sets these anew.
        router.set(&PLAIN)?;
        // A card answers for no address that a device upon it has.
        router.set(&[("net/ipv4/conf/all/arp_ignore", "1")])?;
    }
    Ok(())
}

/// Makes namespaces in which packets go where routes say and addresses are usable at once.
pub(super) fn make(namespaces: &[&Namespace]) -> Result<()> {
    let add = |namespace: &&Namespace| format!("netns add {}\n", namespace.name());
    ip(&[], &namespaces.iter().map(add).collect::<String>())?;
    // Before there are devices: they take what `default` says when they are made.
    namespaces.iter().try_for_each(|namespace| namespace.set(&PLAIN))
}

const PLAIN: [(&str, &str); 6] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// Connects client and nodes to the network.
fn connect(lab: &Lab) -> Result<()> {
    let (node1, node2) = (&lab.node1, &lab.node2);
    let lines = veth_pair("eth0", &lab.client, "client", &lab.network)
        + &veth_pair("eth0", &node1.namespace, node1.name, &lab.network)
        + &veth_pair("eth0", &node2.namespace, node2.name, &lab.network);
    ip(&[], &lines)
}

fn client() -> String {
    let Addresses { v4, v6 } = CLIENT;
    format!(
        "link set lo up
         link set eth0 up
         addr add {v4}/24 dev eth0
         addr add {v6}/64 dev eth0
         route add default via {}
         route add default via {}
        ",
        CLIENT_GATEWAY.v4, CLIENT_GATEWAY.v6
    )
}

fn network(lab: &Lab) -> String {
    let mut lines = format!(
        "link set lo up
         link set client up
         addr add {}/24 dev client
         addr add {}/64 dev client
         link add nodes type bridge
         link set nodes up
         addr add {}/24 dev nodes
         addr add {}/64 dev nodes
        ",
        CLIENT_GATEWAY.v4, CLIENT_GATEWAY.v6, NODE_GATEWAY.v4, NODE_GATEWAY.v6
    );
    lines += &lab.shape.uplink.of_network(lab.node1.name);
    lines += &lab.shape.uplink.of_network(lab.node2.name);
    lines += &route_to_services(&lab.node1);
    if lab.shape.pod_routing == PodRouting::Direct {
        for node in [&lab.node1, &lab.node2] {
            lines += &route_to_pods(node, node.addresses, "");
        }
    }
    lines
}

fn node(lab: &Lab, node: &Node, other: &Node) -> String {
    let Addresses { v4, v6 } = node.addresses;
    let mut lines = lab.shape.uplink.of_node();
    lines += &format!(
        "link set lo up
         link set eth0 up
         addr add {v4}/24 dev eth0
         addr add {v6}/64 dev eth0
         route add default via {}
         route add default via {}
        ",
        NODE_GATEWAY.v4, NODE_GATEWAY.v6
    );
    lines += &match lab.shape.attachment {
        Attachment::Routed => String::new(),
        Attachment::Bridged => pods::bridge(node),
    };
    lines += &match lab.shape.pod_routing {
        PodRouting::Direct => route_to_pods(other, other.addresses, ""),
        PodRouting::Overlay => overlay(node, other),
        PodRouting::Tun => tunnel(DEVICE, node, other),
        PodRouting::Ipip => ipip(node, other),
        PodRouting::WireGuard => {
            format!("link add {WIREGUARD} type wireguard\n") + &tunnel(WIREGUARD, node, other)
        }
    };
    lines
}

/// VIPs and ClusterIPs, routed to `via`, as if it announced them.
fn route_to_services(via: &Node) -> String {
    let Addresses { v4, v6 } = via.addresses;
    [addresses::vip(0), addresses::service(0)]
        .map(|range| {
            format!("route add {}/24 via {v4}\nroute add {}/64 via {v6}\n", range.v4, range.v6)
        })
        .concat()
}

fn route_to_pods(node: &Node, via: Addresses, more: &str) -> String {
    let range = addresses::pod(node.number, 0);
    format!(
        "route add {}/24 via {} {more}\nroute add {}/64 via {} {more}\n",
        range.v4, via.v4, range.v6, via.v6
    )
}

/// A vxlan device to the other node.
fn overlay(node: &Node, other: &Node) -> String {
    let own = addresses::overlay(node.number);
    let theirs = addresses::overlay(other.number);
    let (mac, their_mac) = (overlay_mac(node), overlay_mac(other));
    format!(
        "link add vxlan0 address {mac} type vxlan id 1 local {} dev eth0 dstport 8472 nolearning
         link set vxlan0 up
         addr add {}/32 dev vxlan0
         addr add {}/128 dev vxlan0
         neigh add {} lladdr {their_mac} dev vxlan0 nud permanent
         neigh add {} lladdr {their_mac} dev vxlan0 nud permanent
        ",
        node.addresses.v4, own.v4, own.v6, theirs.v4, theirs.v6
    ) + &route_to_pods(other, theirs, "dev vxlan0 onlink")
}

/// MTU of the devices of tunnels without an Ethernet header: WireGuard's.
const TUNNEL_MTU: u32 = 1420;

/// The node's end of a tunnel without an Ethernet header.
fn tunnel(device: &str, node: &Node, other: &Node) -> String {
    let (own, range) = (addresses::overlay(node.number), addresses::pod(other.number, 0));
    format!(
        "link set {device} mtu {TUNNEL_MTU} up
         addr add {}/32 dev {device}
         addr add {}/128 dev {device}
         route add {}/24 dev {device}
         route add {}/64 dev {device}
         route add {their_v4} dev {device}
         route add {their_v6} dev {device}
        ",
        own.v4,
        own.v6,
        range.v4,
        range.v6,
        their_v4 = addresses::overlay(other.number).v4,
        their_v6 = addresses::overlay(other.number).v6,
    )
}

/// The device of the WireGuard tunnel.
const WIREGUARD: &str = "wg0";

/// Tells each end of the WireGuard tunnel about the other one.
fn encrypt(lab: &Lab) -> Result<()> {
    let nodes = [&lab.node1, &lab.node2];
    let file = |node: &Node| lab.folder().join(format!("{}.key", node.name));
    for node in nodes {
        std::fs::write(file(node), node.namespace.output("wg", &["genkey"])?)?;
    }
    for (node, other) in [(nodes[0], nodes[1]), (nodes[1], nodes[0])] {
        let line = format!(
            "wg set {WIREGUARD} listen-port 51820 private-key {} peer $(wg pubkey < {}) \
             endpoint {}:51820 allowed-ips 0.0.0.0/0,::/0",
            file(node).display(),
            file(other).display(),
            other.addresses.v4
        );
        node.namespace.output("sh", &["-c", &line])?;
    }
    Ok(())
}

/// The device of IPIP tunnels to any node, as Calico has it: the route names the node.
fn ipip(node: &Node, other: &Node) -> String {
    let (own, range) = (addresses::overlay(node.number), addresses::pod(other.number, 0));
    format!(
        "link set tunl0 mtu {TUNNEL_MTU} up
         addr add {}/32 dev tunl0
         route add {}/24 via {} dev tunl0 onlink
         route add {}/64 via {}
        ",
        own.v4, range.v4, other.addresses.v4, range.v6, other.addresses.v6
    )
}

/// Adds the forwarding entry for the tunnel from `node` to `other`.
fn forward_overlay(node: &Node, other: &Node) -> Result<()> {
    let (mac, end) = (overlay_mac(other), other.addresses.v4.to_string());
    let entry = ["fdb", "add", &mac, "dev", "vxlan0", "dst", &end, "self", "permanent"];
    node.namespace.output("bridge", &entry)?;
    Ok(())
}

fn overlay_mac(node: &Node) -> String {
    format!("02:00:00:00:00:{:02x}", node.number)
}

/// Makes every packet of the namespace's devices as it would be on a wire.
pub(super) fn disable_offloads(namespace: &Namespace) -> Result<()> {
    let devices = namespace.output("ip", &["-brief", "link", "show", "type", "veth"])?;
    for line in devices.lines() {
        let device = line.split(['@', ' ']).next().unwrap_or_default();
        let off = ["tx", "off", "rx", "off", "gso", "off", "gro", "off", "tso", "off"];
        namespace.output("ethtool", &[&["-K", device], off.as_slice()].concat())?;
    }
    Ok(())
}
