//! What the kernel's messages about devices, addresses and routes say.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the kernel's messages and their attributes, which grow with it, a few matter"
)]

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};

use super::link::{Link, LinkLayer};

/// `IFA_F_TEMPORARY`, which for IPv6 has the bit of IPv4's secondary addresses.
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

pub fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
}

pub fn is_in_main_table(route: &RouteMessage) -> bool {
    table(route) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// The routing table; numbers above 255 have an attribute.
fn table(route: &RouteMessage) -> u32 {
    let mut attributes = route.attributes.iter();
    let number = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    number.unwrap_or(route.header.table.into())
}

pub fn leaves_by(route: &RouteMessage) -> Vec<u32> {
    route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|h| h.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// The source address of the node's own packets that take a route.
pub fn source_of(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

pub fn link(message: &LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        is_loopback: header.flags.contains(LinkFlags::Loopback),
        link_layer: link_layer(header.link_layer_type),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.address = bytes.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::Link(index) => link.upon = Some(*index),
            LinkAttribute::Controller(index) => link.port_of = Some(*index),
            LinkAttribute::LinkNetNsId(_) => link.has_peer_in_other_netns = true,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(kind).unwrap_or_default()
            }
            _ => {}
        }
    }
    if link.has_peer_in_other_netns || !is_upon_another(&link.kind) {
        link.upon = None;
    }
    link
}

/// Whether a device of this kind is upon another one, which `IFLA_LINK` then names; of a pair it names the other end.
fn is_upon_another(kind: &str) -> bool {
    ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"].contains(&kind)
}

const fn link_layer(kind: LinkLayerType) -> LinkLayer {
    match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => LinkLayer::Ethernet,
        LinkLayerType::None
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp => LinkLayer::None,
        _ => LinkLayer::Other,
    }
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

/// The address and whether it is a primary one, if it is of global scope and usable.
pub fn global_address(message: &AddressMessage) -> Option<(bool, IpNet)> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut address, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // On a point-to-point device `Address` is the other end's.
    let own: IpAddr = local.or(address)?;
    if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
        return None;
    }
    let is_primary = !flags.intersects(TEMPORARY | AddressFlags::Deprecated);
    Some((is_primary, IpNet::new(own, message.header.prefix_len).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtnetlink::RouteMessageBuilder;

    use super::*;

    #[test]
    fn default_routes_are_those_of_all_tables_and_their_table_is_read() {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new;
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new;
        for (route, default, main) in [
            (v4().build(), true, true),
            (v6().build(), true, true),
            // That of a VPN, in a table of its own: `ip route add default dev wg0 table 51820`.
            (v4().table_id(51_820).build(), true, false),
            (v6().table_id(101).build(), true, false),
            (v4().destination_prefix([10, 96, 0, 0].into(), 12).build(), false, true),
            (v4().kind(RouteType::Unreachable).build(), false, true),
        ] {
            let found = (is_default(&route), is_in_main_table(&route));
            assert_eq!(found, (default, main), "{route:?}");
        }
    }
}
