//! Arbitrary clusters: small, so that any two of them have much in common.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::address::{Family, Protocol};
use lb_common::maps::Capacities;
use lb_userspace::model::{
    Affinity, Cluster, DeviceRole, Endpoint, EndpointPort, EndpointSlice, Hints, LocalNode, Name,
    Node, NodeDevice, Service, ServicePort, ServiceType, SharedText, TrafficPolicy,
};
use lb_userspace::plan::Settings;
use proptest::prelude::*;

pub use crate::settings::settings;

/// The local node.
pub const NODE: &str = "node-1";

pub fn local_node() -> LocalNode {
    let device = |index, name: &str, role, addresses: &[&str]| NodeDevice {
        index,
        name: name.to_owned(),
        role: Some(role),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        default_routes: Default::default(),
        xdp_sends: false,
        has_link_header: true,
        link: [0; 6],
    };
    LocalNode {
        name: NODE.to_owned(),
        routes_by_source: false,
        devices: vec![
            device(1, "eth0", DeviceRole::Network, &["192.0.2.1", "2001:db8::1"]),
            device(7, "veth7", DeviceRole::Pod, &[]),
        ],
    }
}

/// Settings with small maps.
pub fn tight() -> impl Strategy<Value = Settings> {
    (1u32..6, 1u32..12, 1u32..900, 2u32..14).prop_map(|(services, frontends, slots, backends)| {
        let mut settings = settings();
        let rest = settings.capacities;
        settings.capacities = Capacities { services, frontends, slots, backends, ..rest };
        settings
    })
}

pub fn cluster() -> impl Strategy<Value = Cluster> {
    let services = prop::collection::btree_map(0u8..4, service_and_slices(), 0..4);
    let cidrs = prop::collection::btree_map(0..CIDRS.len(), Just(()), 0..3);
    (services, any::<bool>(), cidrs).prop_map(|(services, has_zone, cidrs)| {
        let mut cluster = Cluster { synced: true, ..Cluster::default() };
        for cidr in cidrs.into_keys().map(|index| CIDRS[index]) {
            cluster.service_cidrs.insert(cidr.to_owned(), vec![cidr.parse().unwrap()]);
        }
        let node = Node {
            name: NODE.to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            zone: has_zone.then(|| "zone-0".to_owned()),
            leaving: false,
        };
        cluster.nodes.insert(NODE.to_owned(), node);
        for (index, (mut service, slices)) in services {
            let name = Name::new("default", format!("service-{index}"));
            let ips = [format!("10.96.0.{index}"), format!("fd00:96::{index}")];
            let ips = ips.iter().map(|ip| ip.parse().unwrap());
            service.cluster_ips = ips.take(service.cluster_ips.len()).collect();
            service.name = name.clone();
            for (number, mut slice) in slices.into_iter().enumerate() {
                slice.name = Name::new("default", format!("service-{index}-{number}"));
                slice.service = name.clone();
                cluster.slices.insert(slice.name.clone(), Box::new(slice));
            }
            cluster.services.insert(name, Box::new(service));
        }
        cluster
    })
}

fn service_and_slices() -> impl Strategy<Value = (Service, Vec<EndpointSlice>)> {
    (service(), prop::collection::vec(slice(), 0..3))
}

/// Some contain some of the cluster IPs.
const CIDRS: [&str; 4] = ["10.96.0.0/31", "10.96.0.0/16", "172.16.0.0/12", "fd00:96::/112"];

/// Some contain a client outside or a pod.
const RANGES: [&str; 6] = [
    "203.0.113.0/24",
    "10.244.0.0/16",
    "10.244.0.99/32",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "2001:db8:ffff::/48",
];

/// Ranges, external IPs and load balancers' addresses, which may be the same.
fn from_outside() -> impl Strategy<Value = (Option<Vec<IpNet>>, Vec<IpAddr>, Vec<IpAddr>)> {
    let ranges = prop::collection::btree_set(0..RANGES.len(), 0..3);
    let ranges = prop::option::of(ranges.prop_map(|indices| {
        indices.into_iter().map(|index| RANGES[index].parse().unwrap()).collect()
    }));
    let vips = || {
        prop::collection::btree_set((0u8..3, any::<bool>()), 0..2).prop_map(|vips| {
            let vip = |(number, is_v6): (u8, bool)| -> IpAddr {
                let text = match is_v6 {
                    false => format!("198.51.100.{number}"),
                    true => format!("2001:db8:100::{number}"),
                };
                text.parse().unwrap()
            };
            vips.into_iter().map(vip).collect::<Vec<IpAddr>>()
        })
    };
    (ranges, vips(), vips())
}

fn service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::btree_map(0u16..3, (protocol(), prop::option::of(0u16..4)), 1..3);
    let affinity = prop_oneof![
        2 => Just(Affinity::None),
        1 => Just(Affinity::ClientIp { timeout_seconds: 1 }),
        1 => Just(Affinity::ClientIp { timeout_seconds: 10_800 }),
    ];
    let kind = prop_oneof![1 => Just(ServiceType::ClusterIp), 3 => Just(ServiceType::LoadBalancer)];
    let others = (any::<bool>(), prop::bool::weighted(0.1), affinity, kind);
    (ports, from_outside(), policy(), policy(), others).prop_map(
        |(ports, (source_ranges, vips, balancers), internal_policy, external_policy, others)| {
            let (dual, other_proxy, affinity, kind) = others;
            Service {
                name: Name::new("", ""),
                kind,
                cluster_ips: vec!["::".parse().unwrap(); if dual { 2 } else { 1 }],
                headless: false,
                other_proxy,
                ports: ports
                    .into_iter()
                    .map(|(number, (protocol, node_port))| ServicePort {
                        name: format!("port-{number}").as_str().into(),
                        protocol,
                        port: 80 + number,
                        node_port: node_port.map(|number| 30_000 + number),
                    })
                    .collect(),
                external_ips: vips,
                load_balancer_ips: balancers,
                source_ranges,
                internal_policy,
                external_policy,
                health_check_port: None,
                affinity,
            }
        },
    )
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoints = prop::collection::btree_map(1u8..8, endpoint(), 0..6);
    let family = prop_oneof![3 => Just(Family::V4), 1 => Just(Family::V6)];
    let ports = prop::collection::btree_map(0u16..3, (protocol(), 0u16..2), 1..4);
    (endpoints, family, ports).prop_map(|(endpoints, family, ports)| EndpointSlice {
        name: Name::new("", ""),
        service: Name::new("", ""),
        family,
        headless: false,
        ports: ports
            .into_iter()
            .map(|(number, (protocol, port))| EndpointPort {
                name: format!("port-{number}").as_str().into(),
                protocol,
                port: 8080 + port,
            })
            .collect(),
        endpoints: endpoints
            .into_iter()
            .map(|(number, endpoint)| Endpoint { address: pod(family, number), ..endpoint })
            .collect(),
        triggered: None,
    })
}

fn pod(family: Family, number: u8) -> IpAddr {
    let text = match family {
        Family::V4 => format!("10.244.0.{number}"),
        Family::V6 => format!("fd00:244::{number}"),
    };
    text.parse().unwrap()
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let condition = || prop::bool::weighted(0.7);
    let hints = || prop::collection::btree_set(0u8..2, 0..2);
    let node = prop::option::weighted(0.9, any::<bool>());
    (condition(), condition(), prop::bool::weighted(0.2), node, hints(), hints()).prop_map(
        |(ready, serving, terminating, node, zones, nodes)| Endpoint {
            address: IpAddr::from([0; 4]),
            ready: ready && !terminating,
            serving,
            terminating,
            node: node.map(|is_local| if is_local { NODE } else { "node-2" }.into()),
            hints: Hints::of(
                names("zone-", &zones),
                nodes.iter().map(|i| [NODE, "node-2"][usize::from(*i)].into()).collect(),
            ),
        },
    )
}

fn names(prefix: &str, numbers: &BTreeSet<u8>) -> Vec<SharedText> {
    numbers.iter().map(|number| format!("{prefix}{number}").as_str().into()).collect()
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![2 => Just(Protocol::TCP), 2 => Just(Protocol::UDP), 1 => Just(Protocol::SCTP)]
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}
