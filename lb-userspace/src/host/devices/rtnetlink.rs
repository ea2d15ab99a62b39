//! The node's devices, addresses and default routes by rtnetlink, and notifications of their change.
//! What they mean is decided in [`super::classify`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteMessage, RouteType};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder};

use tokio::time::{Instant, sleep_until, timeout};

use super::error::{ANSWER, NetlinkError, request_failed};
use super::link::Link;
use super::messages::{global_address, leaves_by, link, source_of};
use super::routing::{Routing, Ways};
use crate::model::DefaultRoutes;

/// How long notifications are gathered before they are handed on: a pod's device comes with a dozen.
const SETTLE: Duration = Duration::from_millis(20);

/// A netlink socket that lists devices, addresses and routes, and is notified of their changes.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    notifications: UnboundedReceiver<Notification>,
    /// When the notifications that have come are handed on.
    settles: Option<Instant>,
    routing: Routing,
    routes_read: u64,
}

/// Where the routing table sends a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteTarget {
    /// To this node itself.
    Local,
    /// Out of a device.
    Device {
        /// Its interface index.
        index: u32,
        /// The source address of the node's own packets that take this route.
        source: Option<IpAddr>,
    },
    /// Nowhere.
    Unreachable,
}

type Notification = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr);

impl Netlink {
    /// Opens the socket in the caller's network namespace. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Open`]
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, notifications) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ])
        .map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            notifications,
            settles: None,
            routing: Routing::default(),
            routes_read: 0,
        })
    }

    /// Waits until something has changed that may matter, and for what comes along with it. The
    /// future may be dropped and made anew; nothing is missed.
    ///
    /// # Errors
    /// [`NetlinkError::Closed`]
    pub async fn changed(&mut self) -> Result<(), NetlinkError> {
        let settled = loop {
            if let Some(time) = self.settles {
                break time;
            }
            let (message, _) = self.notifications.next().await.ok_or(NetlinkError::Closed)?;
            self.settles = self.routing.notice(&message).then(|| Instant::now() + SETTLE);
        };
        sleep_until(settled).await;
        self.settles = None;
        self.notice_what_has_come();
        Ok(())
    }

    fn notice_what_has_come(&mut self) {
        while let Ok((message, _)) = self.notifications.try_recv() {
            self.routing.notice(&message);
        }
    }

    /// Has routes and rules be read again, whatever was notified: what a next hop object takes with it is not.
    pub fn forget_routing(&mut self) {
        self.routing = Routing::default();
    }

    /// How many routes were read so far.
    #[must_use]
    pub const fn routes_read(&self) -> u64 {
        self.routes_read
    }

    /// Every device of this network namespace, ordered by interface index.
    ///
    /// # Errors
    /// [`NetlinkError`]
    pub async fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        // What has come until now is seen by this reading, and routes must not be older than it.
        self.notice_what_has_come();
        timeout(ANSWER, self.list()).await.map_err(|_elapsed| NetlinkError::Late)?
    }

    async fn list(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request_failed("devices"))?;
        let mut links: Vec<Link> = messages.iter().map(link).collect();
        links.sort_by_key(|link| link.index);
        let mut addresses = self.addresses().await?;
        let [v4, v6] = self.default_routes().await?;
        for link in &mut links {
            link.addresses = addresses.remove(&link.index).unwrap_or_default();
            let (in_v4, in_v6) = (v4.leave_by(link.index), v6.leave_by(link.index));
            link.default_routes = DefaultRoutes { v4: in_v4.0, v6: in_v6.0 };
            link.main_default_routes = DefaultRoutes { v4: in_v4.1, v6: in_v6.1 };
        }
        Ok(links)
    }

    /// Looks `destination` up in the routing table.
    ///
    /// # Errors
    /// [`NetlinkError::Request`]
    pub async fn route(&self, destination: IpAddr) -> Result<RouteTarget, NetlinkError> {
        let request = match destination {
            IpAddr::V4(ip) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build()
            }
            IpAddr::V6(ip) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build()
            }
        };
        let mut replies = Box::pin(self.handle.route().get(request).execute());
        match replies.try_next().await {
            Ok(Some(route)) if route.header.kind == RouteType::Unicast => {
                Ok(leaves_by(&route).first().map_or(RouteTarget::Unreachable, |index| {
                    RouteTarget::Device { index: *index, source: source_of(&route) }
                }))
            }
            Ok(Some(_)) => Ok(RouteTarget::Local),
            Ok(None) => Ok(RouteTarget::Unreachable),
            Err(rtnetlink::Error::NetlinkError(refusal)) if is_unreachable(refusal.raw_code()) => {
                Ok(RouteTarget::Unreachable)
            }
            Err(error) => Err(request_failed("routes")(error)),
        }
    }

    /// Whether which way a packet goes may depend on its source address: there are rules of policy routing for some.
    ///
    /// # Errors
    /// [`NetlinkError`]
    pub async fn has_rules_for_sources(&mut self) -> Result<bool, NetlinkError> {
        if let Some(known) = self.routing.has_rules_for_sources {
            return Ok(known);
        }
        let found = timeout(ANSWER, self.find_rule_for_source()).await;
        let found = found.map_err(|_elapsed| NetlinkError::Late)??;
        self.routing.has_rules_for_sources = Some(found);
        Ok(found)
    }

    async fn find_rule_for_source(&self) -> Result<bool, NetlinkError> {
        for version in [IpVersion::V4, IpVersion::V6] {
            let rules: Result<Vec<RuleMessage>, _> =
                self.handle.rule().get(version).execute().try_collect().await;
            match rules {
                Ok(rules) if rules.iter().any(|rule| rule.header.src_len > 0) => return Ok(true),
                Ok(_) => {}
                // A kernel without policy routing, or without the family.
                Err(rtnetlink::Error::NetlinkError(refusal))
                    if [libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&-refusal.raw_code()) => {}
                Err(error) => return Err(request_failed("rules")(error)),
            }
        }
        Ok(false)
    }

    async fn addresses(&self) -> Result<BTreeMap<u32, Vec<IpNet>>, NetlinkError> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request_failed("addresses"))?;
        let mut found: BTreeMap<u32, Vec<(bool, IpNet)>> = BTreeMap::new();
        for message in oldest_first(&messages) {
            if let Some(address) = global_address(message) {
                found.entry(message.header.index).or_default().push(address);
            }
        }
        Ok(found
            .into_iter()
            .map(|(index, mut addresses)| {
                addresses.sort_by_key(|(is_primary, _)| !is_primary);
                (index, addresses.into_iter().map(|(_, address)| address).collect())
            })
            .collect())
    }

    /// The devices by which default routes of IPv4 and of IPv6 leave.
    async fn default_routes(&mut self) -> Result<[Ways; 2], NetlinkError> {
        if let Some(known) = &self.routing.default_routes {
            return Ok(known.clone());
        }
        let v4 = self.ways(RouteMessageBuilder::<Ipv4Addr>::new().build()).await?;
        let v6 = self.ways(RouteMessageBuilder::<Ipv6Addr>::new().build()).await?;
        Ok(self.routing.default_routes.insert([v4, v6]).clone())
    }

    /// Reads all routes that `request` is about: the kernel selects by table and device, not by prefix.
    async fn ways(&mut self, request: RouteMessage) -> Result<Ways, NetlinkError> {
        let failed = request_failed("routes");
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(request));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut replies = self.handle.request(request).map_err(&failed)?;
        let mut ways = Ways::default();
        while let Some(reply) = replies.next().await {
            self.routes_read += 1;
            add(&mut ways, reply)?;
        }
        Ok(ways)
    }
}

/// Takes in a message of the kernel's list of routes.
fn add(ways: &mut Ways, message: NetlinkMessage<RouteNetlinkMessage>) -> Result<(), NetlinkError> {
    if message.header.flags & NLM_F_DUMP_INTR != 0 {
        return Err(NetlinkError::Interrupted { what: "routes" });
    }
    if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = &message.payload {
        ways.add(route);
        return Ok(());
    }
    let error = if let NetlinkPayload::Error(refusal) = message.payload {
        rtnetlink::Error::NetlinkError(refusal)
    } else {
        rtnetlink::Error::UnexpectedMessage(message)
    };
    Err(request_failed("routes")(error))
}

/// The kernel lists the addresses of IPv6 newest first; one that is added must not become the device's first.
fn oldest_first(messages: &[AddressMessage]) -> impl Iterator<Item = &AddressMessage> {
    let is_v6 = |message: &&AddressMessage| message.header.family == AddressFamily::Inet6;
    let v4 = messages.iter().filter(move |message| !is_v6(message));
    v4.chain(messages.iter().rev().filter(is_v6))
}

/// Whether this errno means that no route, or one that forbids, leads to an address.
fn is_unreachable(code: i32) -> bool {
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL].contains(&-code)
}
