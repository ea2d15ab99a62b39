//! Laying a lab's wires: devices, addresses, routes. Everything is said in `ip`'s own words, a batch
//! per namespace.

use std::fmt::Write;

use anyhow::Result;

use super::addresses::{self, CLIENT, CLIENT_GATEWAY, NODE_GATEWAY};
use super::namespace::ip;
use super::{Addresses, Attachment, Lab, Namespace, Node, Reach};

/// Makes the namespaces of `lab` and connects them.
pub(super) fn lay(lab: &Lab) -> Result<()> {
    make_namespaces(lab)?;
    connect(lab)?;
    lab.client.ip(&client())?;
    lab.network.ip(&network(lab))?;
    for (node, other) in [(&lab.node1, &lab.node2), (&lab.node2, &lab.node1)] {
        node.namespace.ip(&self::node(lab, node, other))?;
        for pod in &node.pods {
            pod.namespace.ip(&self::pod(lab, node, pod))?;
        }
    }
    if lab.shape.reach == Reach::Overlay {
        forward_overlay(&lab.node1, &lab.node2)?;
        forward_overlay(&lab.node2, &lab.node1)?;
    }
    if !lab.shape.offloads {
        lab.namespaces().try_for_each(without_offloads)?;
    }
    Ok(())
}

fn make_namespaces(lab: &Lab) -> Result<()> {
    let lines: String =
        lab.namespaces().map(|namespace| format!("netns add {}\n", namespace.name())).collect();
    ip(&[], &lines)?;
    for router in [&lab.network, &lab.node1.namespace, &lab.node2.namespace] {
        router.set(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    }
    // Before there are devices: they take what `default` says when they are made.
    for namespace in lab.namespaces() {
        namespace.set(&[
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ])?;
    }
    Ok(())
}

/// Makes every veth pair, each end straight in its namespace.
fn connect(lab: &Lab) -> Result<()> {
    let mut lines = String::new();
    let mut pair = |end: &str, here: &Namespace, other_end: &str, there: &Namespace| {
        let (here, there) = (here.name(), there.name());
        lines +=
            &format!("link add {end} netns {here} type veth peer name {other_end} netns {there}\n");
    };
    pair("eth0", &lab.client, "client", &lab.network);
    for node in [&lab.node1, &lab.node2] {
        pair("eth0", &node.namespace, node.name, &lab.network);
        for pod in &node.pods {
            pair("eth0", &pod.namespace, &pod.device, &node.namespace);
        }
    }
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
         link set node1 master nodes up
         link set node2 master nodes up
         addr add {}/24 dev nodes
         addr add {}/64 dev nodes
        ",
        CLIENT_GATEWAY.v4, CLIENT_GATEWAY.v6, NODE_GATEWAY.v4, NODE_GATEWAY.v6
    );
    if lab.shape.reach == Reach::Direct {
        for node in [&lab.node1, &lab.node2] {
            lines += &route_to_pods(node, node.addresses, "");
        }
    }
    lines
}

fn node(lab: &Lab, node: &Node, other: &Node) -> String {
    let Addresses { v4, v6 } = node.addresses;
    let mut lines = format!(
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
        Attachment::Routed => routes_to_own_pods(node),
        Attachment::Bridged => bridge_of_own_pods(node),
    };
    lines += &match lab.shape.reach {
        Reach::Direct => route_to_pods(other, other.addresses, ""),
        Reach::Overlay => overlay(node, other),
    };
    lines
}

/// The address a pod's node has on the pod's own link, as Calico gives it.
const LINK_GATEWAY: &str = "169.254.1.1";

fn routes_to_own_pods(node: &Node) -> String {
    let mut lines = String::new();
    for pod in &node.pods {
        let Addresses { v4, v6 } = pod.addresses;
        let device = &pod.device;
        let _ = write!(
            lines,
            "link set {device} up
             addr add {LINK_GATEWAY}/32 dev {device} scope link
             addr add fe80::1/64 dev {device}
             route add {v4}/32 dev {device}
             route add {v6}/128 dev {device}
            "
        );
    }
    lines
}

/// The address of a bridged node in its own pods' range.
fn bridge_address(node: &Node) -> Addresses {
    addresses::pod(node.number, 254)
}

fn bridge_of_own_pods(node: &Node) -> String {
    let Addresses { v4, v6 } = bridge_address(node);
    let mut lines = format!(
        "link add cni0 type bridge
         link set cni0 up
         addr add {v4}/24 dev cni0
         addr add {v6}/64 dev cni0
        "
    );
    for pod in &node.pods {
        let _ = writeln!(lines, "link set {} master cni0 up", pod.device);
    }
    lines
}

fn pod(lab: &Lab, node: &Node, pod: &super::Pod) -> String {
    let Addresses { v4, v6 } = pod.addresses;
    // What fits into a tunnel's packets; TCP then tells the other end by its segment size.
    let mtu = if lab.shape.reach == Reach::Overlay { 1450 } else { 1500 };
    let up = format!("link set lo up\nlink set eth0 mtu {mtu} up\n");
    match lab.shape.attachment {
        Attachment::Routed => format!(
            "{up}
             addr add {v4}/32 dev eth0
             addr add {v6}/128 dev eth0
             route add {LINK_GATEWAY} dev eth0 scope link
             route add default via {LINK_GATEWAY} dev eth0
             route add default via fe80::1 dev eth0
            "
        ),
        Attachment::Bridged => format!(
            "{up}
             addr add {v4}/24 dev eth0
             addr add {v6}/64 dev eth0
             route add default via {}
             route add default via {}
            ",
            bridge_address(node).v4,
            bridge_address(node).v6
        ),
    }
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

/// Tells the overlay of `node` where the tunnel to `other` ends.
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
fn without_offloads(namespace: &Namespace) -> Result<()> {
    let devices = namespace.output("ip", &["-brief", "link", "show", "type", "veth"])?;
    for line in devices.lines() {
        let device = line.split(['@', ' ']).next().unwrap_or_default();
        let off = ["tx", "off", "rx", "off", "gso", "off", "gro", "off", "tso", "off"];
        namespace.output("ethtool", &[&["-K", device], off.as_slice()].concat())?;
    }
    Ok(())
}
