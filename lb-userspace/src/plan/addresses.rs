//! The addresses that Services are dialled at, apart from their ports: what becomes of packets to
//! them that are of no frontend, and the part of the address space in which they lie.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::address::{Address, Family, V4, V6};
use lb_common::service::IpPolicy;
use lb_common::settings::{Prefix, Settings};

use super::eligible::Reach;
use super::frontends::Claims;
use super::node;
use crate::model::{Cluster, LocalNode, Service, ServiceType};

/// The row of each address of family `A`. One that a device of this node has is never closed, nor
/// answered in its place: the node's own stack does that.
pub(super) fn rows<A: Address>(
    cluster: &Cluster,
    here: &LocalNode,
    claims: &Claims<A>,
) -> BTreeMap<A, IpPolicy> {
    let of_services = cluster.services.values().flat_map(|service| {
        let flags = flags_of_cluster_ip(service);
        cluster_ips(service).map(move |ip| (ip, flags))
    });
    let dialled = claims.iter().map(|(frontend, claim)| {
        let flags = match claim.reach {
            Reach::LoadBalancer | Reach::ExternalIp => IpPolicy::ECHO,
            // A cluster IP has its flags by its Service.
            Reach::ClusterIp | Reach::NodePort => 0,
        };
        (frontend.address, flags)
    });
    let mut rows: BTreeMap<A, IpPolicy> = BTreeMap::new();
    for (address, flags) in of_services.chain(dialled) {
        rows.entry(address).or_insert(IpPolicy { flags: 0 }).flags |= flags;
    }
    for address in here.devices.iter().flat_map(|device| &device.addresses) {
        if let Some(row) = A::from_ip(*address).and_then(|address| rows.get_mut(&address)) {
            row.flags = 0;
        }
    }
    rows
}

/// A Service that another proxy serves is left to it, and so are its ports that we do not know.
fn flags_of_cluster_ip(service: &Service) -> u32 {
    if service.other_proxy { 0 } else { IpPolicy::CLUSTER_IP | IpPolicy::ECHO }
}

fn cluster_ips<A: Address>(service: &Service) -> impl Iterator<Item = A> {
    let is_balanced = !service.headless && service.kind != ServiceType::ExternalName;
    let ips = service.cluster_ips.iter().filter(move |_| is_balanced);
    ips.filter_map(|ip| A::from_ip(*ip))
}

/// Leaves out of `wanted` what a map of `capacity` entries that holds `before` has no room for;
/// returns whether that is anything.
pub(super) fn fit<A: Address>(
    wanted: &mut BTreeMap<A, IpPolicy>,
    before: &BTreeMap<A, IpPolicy>,
    capacity: u32,
) -> bool {
    // What goes is still there while what comes is written.
    let room = (capacity as usize).saturating_sub(before.len());
    let new = wanted.keys().filter(|address| !before.contains_key(address)).copied();
    let refused: BTreeSet<A> = new.skip(room).collect();
    wanted.retain(|address, _| !refused.contains(address));
    !refused.is_empty()
}

/// The row of `SETTINGS`.
pub(super) fn settings(cluster: &Cluster, here: &LocalNode, given: &super::Settings) -> Settings {
    let (ports, sockets) = (given.snat_ports, given.sockets);
    let settings = Settings {
        first_snat_port: ports.first,
        snat_ports: ports.count,
        services_v4: of_services::<V4>(cluster),
        services_v6: of_services::<V6>(cluster),
        ..Settings::nothing()
    };
    if sockets.namespace == 0 {
        return settings;
    }
    Settings {
        namespace: sockets.namespace,
        own_v4: node::primary(cluster, here).unwrap_or(V4([0; 4])),
        own_v6: node::primary(cluster, here).unwrap_or(V6([0; 16])),
        flags: if sockets.of_pods { Settings::PODS_SOCKETS } else { 0 },
        ..settings
    }
}

/// The smallest range that holds every cluster IP and service CIDR of family `A`.
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
