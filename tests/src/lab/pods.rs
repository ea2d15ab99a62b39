//! Attaching a pod to its node: the wire between them, and the addresses and routes at both ends.

use anyhow::Result;

use super::addresses::{self, Addresses};
use super::namespace::{ip, veth_pair};
use super::shape::{Attachment, PodRouting, Shape};
use super::topology::{Node, Pod};

/// The address a pod's node has on the pod's own link, as Calico gives it.
const LINK_GATEWAY: &str = "169.254.1.1";

/// Attaches `pod`, whose namespace is there, to `node`, whose bridge is there if it has one.
pub(super) fn attach(shape: Shape, node: &Node, pod: &Pod) -> Result<()> {
    ip(&[], &veth_pair("eth0", &pod.namespace, &pod.device, &node.namespace))?;
    // What fits into a tunnel's packets; TCP then announces it as its segment size.
    let mtu = if shape.pod_routing == PodRouting::Overlay { 1450 } else { 1500 };
    pod.namespace.ip(&format!("link set lo up\nlink set eth0 mtu {mtu} up"))?;
    node.namespace.ip(&format!("link set {} mtu {mtu}", pod.device))?;
    match shape.attachment {
        Attachment::Routed => route(node, pod),
        Attachment::Bridged => plug_in(node, pod),
    }
}

fn route(node: &Node, pod: &Pod) -> Result<()> {
    let Addresses { v4, v6 } = pod.addresses;
    let device = &pod.device;
    node.namespace.ip(&format!(
        "link set {device} up
         addr add {LINK_GATEWAY}/32 dev {device} scope link
         addr add fe80::1/64 dev {device}
         route add {v4}/32 dev {device}
         route add {v6}/128 dev {device}
        "
    ))?;
    pod.namespace.ip(&format!(
        "addr add {v4}/32 dev eth0
         addr add {v6}/128 dev eth0
         route add {LINK_GATEWAY} dev eth0 scope link
         route add default via {LINK_GATEWAY} dev eth0
         route add default via fe80::1 dev eth0
        "
    ))
}

fn plug_in(node: &Node, pod: &Pod) -> Result<()> {
    let Addresses { v4, v6 } = pod.addresses;
    let gateway = bridge_address(node);
    node.namespace.ip(&format!("link set {} master cni0 up", pod.device))?;
    pod.namespace.ip(&format!(
        "addr add {v4}/24 dev eth0
         addr add {v6}/64 dev eth0
         route add default via {}
         route add default via {}
        ",
        gateway.v4, gateway.v6
    ))
}

/// The bridge that all pods of a bridged node are ports of, and which is their gateway.
pub(super) fn bridge(node: &Node) -> String {
    let Addresses { v4, v6 } = bridge_address(node);
    format!(
        "link add cni0 type bridge
         link set cni0 up
         addr add {v4}/24 dev cni0
         addr add {v6}/64 dev cni0
        "
    )
}

fn bridge_address(node: &Node) -> Addresses {
    addresses::pod(node.number, 254)
}
