//! What the kernel says of one device.

use ipnet::IpNet;

use crate::model::DefaultRoutes;

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
    /// What its packets begin with.
    pub link_layer: LinkLayer,
    /// It is one end of a pair whose other end is in another network namespace.
    pub has_peer_in_other_netns: bool,
    /// Index of the bridge, bond or VRF it is a port of.
    pub port_of: Option<u32>,
    /// Index of the device in this network namespace that it is upon, as a VLAN's is.
    pub upon: Option<u32>,
    /// The families of which a default route leaves by it, whatever routing table that is in.
    pub default_routes: DefaultRoutes,
    /// The same of the table `main` alone. Tables of policy routing, such as a VPN's, do not count: which packets go by
    /// them is their rules' affair.
    pub main_default_routes: DefaultRoutes,
    /// Its link address; all zero if it has none of six bytes.
    pub address: [u8; 6],
    /// Its addresses of global scope with their prefix lengths, the primary one of a family first.
    pub addresses: Vec<IpNet>,
}

/// What the packets of a device begin with, by its type (`ARPHRD_*`, include/uapi/linux/if_arp.h).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LinkLayer {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The IP header (`dev_is_mac_header_xmit`, include/linux/if_arp.h).
    None,
    /// Another link header.
    Other,
}

impl Link {
    /// The link address that frames for this node bear where they arrive by this one of `links`; all zero
    /// if it is not known, or if there are several. At the port of a bridge it is the bridge's; other
    /// switches in software, Open vSwitch for one, have several.
    #[must_use]
    pub fn destination(&self, links: &[Self]) -> [u8; 6] {
        let Some(index) = self.port_of else { return self.address };
        let upper = links.iter().find(|upper| upper.index == index);
        match upper.map(|upper| (upper.kind.as_str(), upper.address)) {
            Some(("bridge", address)) => address,
            Some(("bond" | "team" | "vrf", _)) => self.address,
            Some(_) | None => [0; 6],
        }
    }
}

/// Whether there is a device with this interface index now.
#[must_use]
pub fn exists(index: u32) -> bool {
    find_name(index).is_some()
}

/// The name of the device with this interface index; `device 7` if there is none.
#[must_use]
pub fn name(index: u32) -> String {
    find_name(index).unwrap_or_else(|| format!("device {index}"))
}

/// nix does not take the null pointer of if_indextoname(3) for a failure: the name is empty then
/// (<https://github.com/nix-rust/nix/blob/v0.31.3/src/net/if_.rs>).
fn find_name(index: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_gone_is_known_to_be() {
        const NONE: u32 = u32::MAX >> 1;
        assert!(exists(1), "the loopback device is the first one everywhere");
        assert!(!exists(NONE));
        assert_eq!(name(NONE), format!("device {NONE}"));
    }

    #[test]
    fn frames_for_this_node_bear_the_address_of_the_device_or_of_its_bridge() {
        const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
        const BRIDGE: [u8; 6] = [2, 0, 0, 0, 0, 5];
        let upper = |index, kind: &str| Link {
            index,
            kind: kind.into(),
            address: BRIDGE,
            ..Link::default()
        };
        let links = [upper(5, "bridge"), upper(6, "bond"), upper(7, "openvswitch")];
        let destination =
            |port_of| Link { port_of, address: OWN, ..Link::default() }.destination(&links);
        assert_eq!(destination(None), OWN);
        assert_eq!(destination(Some(5)), BRIDGE);
        assert_eq!(destination(Some(6)), OWN);
        assert_eq!(destination(Some(7)), [0; 6], "frames bear the address of any port inside");
        assert_eq!(destination(Some(8)), [0; 6], "what it is a port of is not known");
    }
}
