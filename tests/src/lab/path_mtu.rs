//! Links with a small MTU. The router before such a link fragments a larger packet or sends an ICMP
//! error, for path MTU discovery (RFC 1191, RFC 8201).

use anyhow::Result;

use super::addresses::Addresses;
use super::addresses::{self, CLIENT, NODE_GATEWAY};
use super::namespace::Namespace;
use super::topology::{Lab, Node};

/// Where a lab's narrow link is. A route's MTU stands for it, which routers honour as if it were the
/// device's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NarrowLink {
    /// Between client and network.
    Client,
    /// Between network and node1.
    Node,
    /// Between node1 and node2. The router before it is the node itself.
    BetweenNodes,
    /// Between node2 and its pods.
    RemotePods,
}

impl NarrowLink {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Client, Self::Node, Self::BetweenNodes, Self::RemotePods];
}

impl Lab {
    /// Sets the MTU of the link. Wants pods that are
    /// routed, and nodes that reach them directly.
    ///
    /// # Errors
    /// If a route cannot be changed.
    pub fn limit_mtu(&self, link: NarrowLink, mtu: u16) -> Result<()> {
        let (node1, node2) = (&self.node1, &self.node2);
        match link {
            NarrowLink::Client => to_host(&self.network, CLIENT, "client", mtu),
            NarrowLink::Node => {
                to_host(&self.network, node1.addresses, "nodes", mtu)?;
                let Addresses { v4, v6 } = NODE_GATEWAY;
                node1.namespace.ip(&format!(
                    "route replace default via {v4} mtu {mtu}\nroute replace default via {v6} mtu {mtu}"
                ))
            }
            NarrowLink::BetweenNodes => {
                to_node(node1, node2, mtu)?;
                to_node(node2, node1, mtu)
            }
            NarrowLink::RemotePods => node2
                .pods
                .iter()
                .try_for_each(|pod| to_host(&node2.namespace, pod.addresses, &pod.device, mtu)),
        }
    }
}

/// Sets the MTU from `node` to `other` and its pods.
fn to_node(node: &Node, other: &Node, mtu: u16) -> Result<()> {
    let (pods, via) = (addresses::pod(other.number, 0), other.addresses);
    to_host(&node.namespace, via, "eth0", mtu)?;
    node.namespace.ip(&format!(
        "route replace {}/24 via {} mtu {mtu}\nroute replace {}/64 via {} mtu {mtu}",
        pods.v4, via.v4, pods.v6, via.v6
    ))
}

/// Sets the MTU from `router` to a host behind `device`.
fn to_host(router: &Namespace, host: Addresses, device: &str, mtu: u16) -> Result<()> {
    router.ip(&format!(
        "route replace {}/32 dev {device} mtu {mtu}\nroute replace {}/128 dev {device} mtu {mtu}",
        host.v4, host.v6
    ))
}
