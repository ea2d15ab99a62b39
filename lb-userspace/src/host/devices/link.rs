//! What the kernel says of one device.

use ipnet::IpNet;

/// What the kernel says of one device.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND`, such as `veth`; empty for hardware.
    pub kind: String,
    /// It is a loopback device.
    pub is_loopback: bool,
    /// Its frames begin with an Ethernet header.
    pub is_ethernet: bool,
    /// It is one end of a pair whose other end is in another network namespace.
    pub has_peer_in_other_netns: bool,
    /// Index of the bridge, bond or VRF it is a port of.
    pub port_of: Option<u32>,
    /// A default route leaves by it.
    pub has_default_route: bool,
    /// Largest IP packet it takes, in bytes; 0 if not known.
    pub mtu: u32,
    /// Its addresses of global scope with their prefix lengths, the primary one of a family first.
    pub addresses: Vec<IpNet>,
}

/// The name of the device with this interface index; `device 7` if there is none.
#[must_use]
pub fn name(index: u32) -> String {
    match nix::net::if_::if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("device {index}"),
    }
}
