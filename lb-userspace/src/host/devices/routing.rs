//! What of the kernel's routing matters: by which devices default routes leave, and whether rules of policy routing go by
//! source addresses. It is kept from one reading to the next: a node may have a million routes, and as many rules as pods,
//! and they are not listed for each pod that comes.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the kernel's messages and their attributes, which grow with it, a few matter"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::RouteMessage;

use super::messages::{is_default, is_in_main_table, leaves_by, source_of};

/// What was read of the kernel's routing, unless a notification has come since by which it may be another.
#[derive(Debug, Default)]
pub struct Routing {
    /// The default routes of IPv4 and of IPv6.
    pub default_routes: Option<[Ways; 2]>,
    /// Whether there are rules for source addresses.
    pub has_rules_for_sources: Option<bool>,
}

/// The devices by which default routes of a family leave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ways {
    /// Each with whether one of the table `main` does.
    devices: BTreeMap<u32, bool>,
    /// Source addresses that routes name: those go with their address.
    sources: BTreeSet<IpAddr>,
}

impl Routing {
    /// Forgets what `message` may have changed; returns whether the devices may have changed, or this.
    pub fn notice(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        use RouteNetlinkMessage as Message;
        match &message.payload {
            NetlinkPayload::InnerMessage(Message::NewRoute(route) | Message::DelRoute(route)) => {
                // On a router, routes come and go all the time.
                if !is_default(route) {
                    return false;
                }
                self.default_routes = None;
            }
            // A device that goes down or away takes its routes of IPv4 with it, and an address that goes those that name
            // it (`fib_flush`, net/ipv4/fib_frontend.c): nothing else is said of them.
            NetlinkPayload::InnerMessage(Message::NewLink(link) | Message::DelLink(link)) => {
                self.forget_routes_if(|ways| ways.devices.contains_key(&link.header.index));
            }
            NetlinkPayload::InnerMessage(Message::DelAddress(address)) => {
                let gone: Vec<IpAddr> = addresses(address).collect();
                self.forget_routes_if(|ways| {
                    ways.devices.contains_key(&address.header.index)
                        || gone.iter().any(|address| ways.sources.contains(address))
                });
            }
            NetlinkPayload::InnerMessage(Message::NewAddress(_)) => {}
            NetlinkPayload::InnerMessage(Message::NewRule(_) | Message::DelRule(_)) => {
                self.has_rules_for_sources = None;
            }
            // Notifications were lost as there were too many, or mean what is not known here.
            _ => *self = Self::default(),
        }
        true
    }

    fn forget_routes_if(&mut self, may_be_gone: impl Fn(&Ways) -> bool) {
        if self.default_routes.iter().flatten().any(may_be_gone) {
            self.default_routes = None;
        }
    }
}

impl Ways {
    /// Takes in a route of the family, which need not be a default route.
    pub fn add(&mut self, route: &RouteMessage) {
        if is_default(route) {
            for device in leaves_by(route) {
                *self.devices.entry(device).or_default() |= is_in_main_table(route);
            }
            self.sources.extend(source_of(route));
        }
    }

    /// Whether one leaves by the device with interface index `device`, whatever its table; and whether one of the table
    /// `main` does.
    #[must_use]
    pub fn leave_by(&self, device: u32) -> (bool, bool) {
        let is_main = self.devices.get(&device).copied();
        (is_main.is_some(), is_main == Some(true))
    }
}

fn addresses(message: &AddressMessage) -> impl Iterator<Item = IpAddr> {
    message.attributes.iter().filter_map(|attribute| match attribute {
        AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rtnetlink::RouteMessageBuilder;
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_route::link::LinkMessage;
    use rtnetlink::packet_route::rule::RuleMessage;

    use super::*;

    const UPLINK: u32 = 2;
    const POD: u32 = 70;
    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

    type V4 = RouteMessageBuilder<Ipv4Addr>;
    type V6 = RouteMessageBuilder<Ipv6Addr>;

    /// As after a reading of a node with one uplink.
    fn read() -> Routing {
        let (mut v4, mut v6) = (Ways::default(), Ways::default());
        v4.add(
            &V4::new().output_interface(UPLINK).pref_source(Ipv4Addr::new(192, 0, 2, 7)).build(),
        );
        v4.add(&V4::new().destination_prefix([10, 2, 0, 0].into(), 24).output_interface(9).build());
        v6.add(&V6::new().table_id(101).output_interface(UPLINK).build());
        Routing { default_routes: Some([v4, v6]), has_rules_for_sources: Some(false) }
    }

    fn link(index: u32) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link
    }

    fn address(index: u32, address: IpAddr) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address));
        message
    }

    /// Which of default routes and rules are read again after `payload`; `None` if nothing is.
    fn read_again(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<(bool, bool)> {
        let mut routing = read();
        let matters = routing.notice(&NetlinkMessage::new(NetlinkHeader::default(), payload));
        let again = (routing.default_routes.is_none(), routing.has_rules_for_sources.is_none());
        assert!(matters || again == (false, false));
        matters.then_some(again)
    }

    #[test]
    fn routes_and_rules_are_read_again_where_they_may_have_changed_and_not_for_a_pod() {
        use RouteNetlinkMessage as Message;
        let other = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
        let to_a_pod = || V4::new().destination_prefix([10, 1, 0, 9].into(), 32);
        for (message, expected) in [
            // A pod that comes or goes.
            (Message::NewLink(link(POD)), Some((false, false))),
            (Message::DelLink(link(POD)), Some((false, false))),
            (Message::NewAddress(address(POD, other)), Some((false, false))),
            (Message::DelAddress(address(POD, other)), Some((false, false))),
            (Message::NewRoute(to_a_pod().output_interface(POD).build()), None),
            (Message::DelRoute(to_a_pod().output_interface(UPLINK).build()), None),
            // What changes routes, or may have.
            (Message::NewRoute(V6::new().output_interface(9).build()), Some((true, false))),
            (Message::DelRoute(V4::new().table_id(100).build()), Some((true, false))),
            (Message::NewLink(link(UPLINK)), Some((true, false))),
            (Message::DelLink(link(UPLINK)), Some((true, false))),
            (Message::DelAddress(address(UPLINK, other)), Some((true, false))),
            (Message::DelAddress(address(POD, SOURCE)), Some((true, false))),
            (Message::NewAddress(address(UPLINK, other)), Some((false, false))),
            (Message::NewRule(RuleMessage::default()), Some((false, true))),
            (Message::DelRule(RuleMessage::default()), Some((false, true))),
        ] {
            assert_eq!(read_again(message.clone().into()), expected, "{message:?}");
        }
    }

    #[test]
    fn all_is_read_again_after_notifications_were_lost() {
        assert_eq!(read_again(NetlinkPayload::Overrun(Vec::new())), Some((true, true)));
    }

    #[test]
    fn default_routes_are_found_by_their_device_whatever_their_table() {
        let [v4, v6] = read().default_routes.unwrap();
        assert_eq!((v4.leave_by(UPLINK), v6.leave_by(UPLINK)), ((true, true), (true, false)));
        assert_eq!(v4.leave_by(9), (false, false), "a route to a prefix");
    }
}
