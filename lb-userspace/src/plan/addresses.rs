//! The addresses of Services, apart from their ports: what happens to packets to such an address that
//! are not for a frontend, and the range that covers all cluster IPs.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::address::{Address, Family, V4, V6};
use lb_common::service::IpPolicy;
use lb_common::settings::{Prefix, Settings};

use super::frontends::{Claims, FrontendKind};
use super::node;
use super::omissions::Context;
use super::settings::Settings as PlanSettings;
use crate::model::{Cluster, LocalNode, Service, ServiceType};

/// The IP policy of each address of family `A`. An address that a device of this node has, or that is left to others,
/// gets no flags: the node's own stack handles its other packets.
pub(super) fn rows<A: Address>(context: &Context<'_>, claims: &Claims<A>) -> BTreeMap<A, IpPolicy> {
    let Context { cluster, local_node, settings, .. } = *context;
    let of_services = cluster.services.values().flat_map(|service| {
        let flags = flags_of_cluster_ip(service);
        cluster_ips(service).map(move |ip| (ip, flags))
    });
    let of_frontends = claims.iter().map(|(frontend, claim)| {
        let flags = match claim.kind {
            FrontendKind::LoadBalancer | FrontendKind::ExternalIp => IpPolicy::ECHO,
            // The flags of a cluster IP come from its Service.
            FrontendKind::ClusterIp | FrontendKind::NodePort => 0,
        };
        (frontend.address, flags)
    });
    let mut rows: BTreeMap<A, IpPolicy> = BTreeMap::new();
    for (address, flags) in of_services.chain(of_frontends) {
        rows.entry(address).or_insert(IpPolicy { flags: 0 }).flags |= flags;
    }
    let own = node::own_addresses(local_node);
    for (address, row) in &mut rows {
        let ip = address.to_ip();
        if own.contains(&ip) || settings.skip.has(ip) {
            row.flags = 0;
        }
    }
    rows
}

/// A Service of another proxy is left to that proxy, with its undefined ports.
fn flags_of_cluster_ip(service: &Service) -> u32 {
    if service.other_proxy { 0 } else { IpPolicy::CLUSTER_IP | IpPolicy::ECHO }
}

fn cluster_ips<A: Address>(service: &Service) -> impl Iterator<Item = A> {
    let is_balanced = !service.headless && service.kind != ServiceType::ExternalName;
    let ips = service.cluster_ips.iter().filter(move |_| is_balanced);
    ips.filter_map(|ip| A::from_ip(*ip))
}

/// Removes from `wanted` what does not fit into a map of `capacity` entries that holds `before`;
/// returns whether that is anything.
pub(super) fn fit<A: Address>(
    wanted: &mut BTreeMap<A, IpPolicy>,
    before: &BTreeMap<A, IpPolicy>,
    capacity: u32,
) -> bool {
    // Stale entries are removed after new ones are written.
    let room = (capacity as usize).saturating_sub(before.len());
    let new = wanted.keys().filter(|address| !before.contains_key(address)).copied();
    let refused: BTreeSet<A> = new.skip(room).collect();
    wanted.retain(|address, _| !refused.contains(address));
    !refused.is_empty()
}

/// The row of `SETTINGS`.
pub(super) fn settings(cluster: &Cluster, local_node: &LocalNode, from: &PlanSettings) -> Settings {
    let sockets = from.sockets;
    let settings = Settings {
        snat_tiers: from.snat_tiers,
        services_v4: of_services::<V4>(cluster),
        services_v6: of_services::<V6>(cluster),
        flags: if local_node.routes_by_source { Settings::ROUTES_BY_SOURCE } else { 0 },
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
fn of_services<A: Address>(cluster: &Cluster) -> Prefix<A> {
    let services = cluster.services.values().flat_map(cluster_ips::<A>);
    let cluster_ips = services.map(|ip| IpNet::from(ip.to_ip()));
    let cidrs = cluster.service_cidrs.values().flatten().copied();
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
