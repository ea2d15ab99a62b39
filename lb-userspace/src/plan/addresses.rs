//! The addresses of Services, apart from their ports: what happens to packets to such an address that
//! are not for a frontend, and the range that covers all cluster IPs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::address::{Address, Family, V4, V6};
use lb_common::service::IpPolicy;
use lb_common::settings::{Prefix, Settings};

use super::index::AddressUse;
use super::node;
use super::omissions::Context;
use crate::model::DefaultRoutes;

/// The IP policies of the addresses that are planned now, which are those in `touched`, or all. An address that a device
/// of this node has, or that is left to others, gets no flags: the node's own stack handles its other packets.
pub(super) fn rows<A: Address>(
    context: &Context<'_>,
    touched: Option<&BTreeSet<IpAddr>>,
) -> BTreeMap<A, IpPolicy> {
    let Context { index, local_node, settings, .. } = *context;
    let own = node::own_addresses(local_node);
    let with_node_ports = node_ports::<A>(context);
    let row = |ip: IpAddr, of: AddressUse| {
        let is_skipped = settings.skip.has(ip);
        let address = A::from_ip(ip)?;
        let is_external = of.external > 0 && !is_skipped;
        let is_any = of.cluster_ips + of.of_other_proxies > 0 || is_external;
        let flags = if own.contains(&ip) || is_skipped { 0 } else { flags(of) };
        (is_any || with_node_ports.contains(&address)).then_some((address, IpPolicy { flags }))
    };
    if let Some(touched) = touched {
        return touched.iter().filter_map(|ip| row(*ip, index.use_of(*ip))).collect();
    }
    let of_node = with_node_ports.iter().map(|address| address.to_ip());
    let all = index.uses().chain(of_node.map(|ip| (ip, index.use_of(ip))));
    all.filter_map(|(ip, of)| row(ip, of)).collect()
}

/// The addresses of this node with node ports of Services.
fn node_ports<A: Address>(context: &Context<'_>) -> BTreeSet<A> {
    let Context { index, settings, .. } = *context;
    if !index.has_node_ports(A::FAMILY) {
        return BTreeSet::new();
    }
    let addresses = node::nodeport_addresses(context);
    addresses.into_iter().filter(|address: &A| !settings.skip.has(address.to_ip())).collect()
}

/// A Service of another proxy is left to that proxy, with its undefined ports.
const fn flags(of: AddressUse) -> u32 {
    match of {
        AddressUse { cluster_ips: 1.., .. } => IpPolicy::CLUSTER_IP | IpPolicy::ECHO,
        AddressUse { external: 1.., .. } => IpPolicy::ECHO,
        AddressUse { .. } => 0,
    }
}

/// Removes from `wanted` what does not fit into a map that holds `before` and has room for so many more;
/// returns whether that is anything.
pub(super) fn fit<A: Address>(
    wanted: &mut BTreeMap<A, IpPolicy>,
    before: &BTreeMap<A, IpPolicy>,
    room: usize,
) -> bool {
    let new = wanted.keys().filter(|address| !before.contains_key(address)).copied();
    let refused: BTreeSet<A> = new.skip(room).collect();
    wanted.retain(|address, _| !refused.contains(address));
    !refused.is_empty()
}

/// The row of `SETTINGS`.
pub(super) fn settings(context: &Context<'_>) -> Settings {
    let Context { cluster, local_node, settings: from, .. } = *context;
    let sockets = from.sockets;
    let mut flags = if local_node.routes_by_source { Settings::ROUTES_BY_SOURCE } else { 0 };
    for device in local_node.devices.iter().filter(|device| device.role.is_some()) {
        let DefaultRoutes { v4, v6 } = device.default_routes;
        flags |= if v4 { Settings::DEFAULT_ROUTE_V4 } else { 0 };
        flags |= if v6 { Settings::DEFAULT_ROUTE_V6 } else { 0 };
    }
    let settings = Settings {
        snat_tiers: from.snat_tiers,
        services_v4: of_services::<V4>(context),
        services_v6: of_services::<V6>(context),
        flags,
        ..Settings::nothing()
    };
    if sockets.namespace == 0 {
        return settings;
    }
    Settings {
        namespace: sockets.namespace,
        own_v4: node::primary(cluster, local_node).unwrap_or(V4([0; 4])),
        own_v6: node::primary(cluster, local_node).unwrap_or(V6([0; 16])),
        flags: settings.flags | if sockets.of_pods { Settings::PODS_SOCKETS } else { 0 },
        ..settings
    }
}

/// The smallest range that contains every cluster IP and service CIDR of family `A`.
fn of_services<A: Address>(context: &Context<'_>) -> Prefix<A> {
    // What contains the lowest and the highest one contains those between.
    let ends = context.index.cluster_ips(A::FAMILY);
    let cluster_ips = ends.into_iter().flat_map(|(low, high)| [low, high]).map(IpNet::from);
    let cidrs = context.cluster.service_cidrs.values().flatten().copied();
    let ours = cidrs.filter(|range| Family::of(&range.addr()) == A::FAMILY);
    let all = cluster_ips.chain(ours).reduce(covering);
    let prefix = all.and_then(|range| {
        let (first, mask) = (A::from_ip(range.network())?, A::from_ip(range.netmask())?);
        Some(if range.prefix_len() == 0 { Prefix::everything() } else { Prefix { first, mask } })
    });
    prefix.unwrap_or_else(Prefix::nothing)
}

/// The smallest range that holds both.
fn covering(one: IpNet, other: IpNet) -> IpNet {
    let wider = std::iter::successors(Some(one), IpNet::supernet);
    wider.into_iter().find(|range| range.contains(&other)).unwrap_or(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, expected: &str) {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert_eq!(covering(net(one), net(other)).to_string(), expected);
        assert_eq!(covering(net(other), net(one)).to_string(), expected);
    }

    #[test]
    fn the_range_that_covers_two_is_the_smallest() {
        check("10.96.0.1/32", "10.96.0.1/32", "10.96.0.1/32");
        check("10.96.0.1/32", "10.96.0.2/32", "10.96.0.0/30");
        check("10.96.0.0/12", "10.97.0.1/32", "10.96.0.0/12");
        check("10.96.0.0/12", "172.16.0.0/12", "0.0.0.0/0");
        check("fd00:96::/112", "fd00:97::1/128", "fd00:96::/31");
    }
}
