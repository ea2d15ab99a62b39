//! This node as its devices show it; its Node object is [`super::Node`].

use std::fmt;
use std::net::IpAddr;

/// This node.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LocalNode {
    /// The name under which the cluster knows it: endpoints that bear it are local.
    pub name: String,
    /// Its devices, ordered by interface index.
    pub devices: Vec<NodeDevice>,
    /// Which way a packet goes may depend on its source address: there are rules for some (`ip rule from`).
    pub routes_by_source: bool,
}

/// Whose sockets are balanced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sockets {
    /// Cookie of this node's network namespace; 0 if it is not known.
    pub namespace: u64,
    /// Those of pods too.
    pub of_pods: bool,
}

/// One of this node's devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeDevice {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// What is behind it; `None` where Weir leaves its packets alone.
    pub role: Option<DeviceRole>,
    /// Its addresses of global scope, the primary one of each family before the others. An address is the node's
    /// whatever the device's role is: anycast addresses are on the loopback device, virtual ones on dummies.
    pub addresses: Vec<IpAddr>,
    /// The families of which a default route leaves by it.
    pub default_routes: DefaultRoutes,
    /// Frames that XDP redirects to it are sent.
    pub xdp_sends: bool,
    /// Its packets have an Ethernet header; else they begin with the IP header.
    pub has_link_header: bool,
    /// The link address that frames for this node bear where they arrive by it; all zero if frames of any
    /// are to be balanced.
    pub link: [u8; 6],
}

/// Families of which a default route leaves by a device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DefaultRoutes {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl DefaultRoutes {
    /// Whether there is any.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.v4 || self.v6
    }
}

/// What is behind a device; it decides the source class of packets that come in by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceRole {
    /// A pod of this node.
    Pod,
    /// Anything outside this node, tunnels included.
    Network,
}

impl fmt::Display for DeviceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "a pod",
            Self::Network => "the network",
        })
    }
}
