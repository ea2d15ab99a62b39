//! What varies between labs.

use super::links::uplink::Uplink;

/// What varies between labs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Pods on node1, at most 99.
    pub local_pods: u8,
    /// Pods on node2, at most 99.
    pub remote_pods: u8,
    /// How pods are attached to their node.
    pub attachment: Attachment,
    /// How the nodes are attached to their network.
    pub uplink: Uplink,
    /// How the nodes reach each other's pods.
    pub pod_routing: PodRouting,
    /// Whether devices leave checksums and segmentation to the receiver, as veth pairs do by
    /// default; without, every packet is as it would be on a wire.
    pub offloads: bool,
    /// Whether what XDP sends out of a node's network device arrives, as it does with a real card;
    /// on veth pairs it does not by default. Wants `offloads` off.
    pub delivers_xdp_tx: bool,
}

/// How pods are attached to their node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// A route to each pod, as Calico and Cilium do it.
    Routed,
    /// A bridge that all pods of the node are ports of, as the CNI plugin `bridge` and flannel do.
    Bridged,
}

/// How the nodes reach each other's pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodRouting {
    /// A route to the other node's pods through that node.
    Direct,
    /// A vxlan device, with neighbours and forwarding entries written by hand as flannel does.
    Overlay,
    /// A tunnel whose devices have no Ethernet header: see [`super::links::tun`].
    Tun,
    /// An IPIP tunnel for IPv4, as Calico makes it; a route through the node for IPv6. Its kernel module is needed.
    Ipip,
    /// A WireGuard tunnel. Its kernel module is needed, and `wg`.
    WireGuard,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            local_pods: 3,
            remote_pods: 2,
            attachment: Attachment::Routed,
            uplink: Uplink::Card,
            pod_routing: PodRouting::Direct,
            offloads: true,
            delivers_xdp_tx: false,
        }
    }
}
