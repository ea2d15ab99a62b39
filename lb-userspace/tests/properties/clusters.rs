//! Arbitrary clusters: small, so that any two of them have much in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::address::{Family, Protocol};
use lb_common::maps::Capacities;
use lb_userspace::model::{
    Affinity, Cluster, DeviceRole, Endpoint, EndpointPort, EndpointSlice, Name, Node, NodeDevice,
    Service, ServicePort, ServiceType, SourcePorts, ThisNode, TrafficPolicy,
};
use lb_userspace::plan::{NodePortAddresses, Settings};
use proptest::prelude::*;

/// The node all properties are about.
pub const HERE: &str = "here";

pub fn here() -> ThisNode {
    let device = |index, name: &str, role, addresses: &[&str]| NodeDevice {
        index,
        name: name.to_owned(),
        role,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        xdp_sends: false,
    };
    ThisNode {
        name: HERE.to_owned(),
        devices: vec![
            device(1, "eth0", DeviceRole::Network, &["192.0.2.1", "2001:db8::1"]),
            device(7, "veth7", DeviceRole::Pod, &[]),
        ],
    }
}

/// Settings with room for everything.
pub fn settings() -> Settings {
    Settings {
        nodeport_addresses: NodePortAddresses::Primary,
        capacities: Capacities {
            services: 1000,
            frontends: 1000,
            slots: 100_000,
            backends: 1000,
            connections: 1000,
            half_open: 1000,
            affinity: 1000,
        },
        honours_external_ips: true,
        source_ports: SourcePorts { first: 61_000, count: 4536 },
    }
}

/// Settings with hardly any room.
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
    (services, any::<bool>()).prop_map(|(services, has_zone)| {
        let mut cluster = Cluster { synced: true, ..Cluster::default() };
        let node = Node {
            name: HERE.to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            zone: has_zone.then(|| "zone-0".to_owned()),
            leaving: false,
        };
        cluster.nodes.insert(HERE.to_owned(), node);
        for (index, (mut service, slices)) in services {
            let name = Name::new("default", format!("service-{index}"));
            let ips = [format!("10.96.0.{index}"), format!("fd00:96::{index}")];
            let ips = ips.iter().map(|ip| ip.parse().unwrap());
            service.cluster_ips = ips.take(service.cluster_ips.len()).collect();
            service.name = name.clone();
            for (number, mut slice) in slices.into_iter().enumerate() {
                slice.name = Name::new("default", format!("service-{index}-{number}"));
                slice.service = name.clone();
                cluster.slices.insert(slice.name.clone(), slice);
            }
            cluster.services.insert(name, service);
        }
        cluster
    })
}

fn service_and_slices() -> impl Strategy<Value = (Service, Vec<EndpointSlice>)> {
    (service(), prop::collection::vec(slice(), 0..3))
}

fn service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::btree_map(0u16..3, (protocol(), prop::option::of(0u16..4)), 1..3);
    let vips = prop::collection::btree_set(0u8..3, 0..2);
    (ports, vips, policy(), policy(), any::<bool>(), any::<bool>()).prop_map(
        |(ports, vips, internal_policy, external_policy, dual, other_proxy)| Service {
            name: Name::new("", ""),
            kind: ServiceType::NodePort,
            cluster_ips: vec!["::".parse().unwrap(); if dual { 2 } else { 1 }],
            headless: false,
            other_proxy: other_proxy && vips.is_empty(),
            ports: ports
                .into_iter()
                .map(|(number, (protocol, node_port))| ServicePort {
                    name: format!("port-{number}"),
                    protocol,
                    port: 80 + number,
                    node_port: node_port.map(|number| 30_000 + number),
                })
                .collect(),
            external_ips: vips
                .iter()
                .map(|ip| format!("198.51.100.{ip}").parse().unwrap())
                .collect(),
            load_balancer_ips: Vec::new(),
            source_ranges: None,
            internal_policy,
            external_policy,
            health_check_port: None,
            affinity: Affinity::None,
            selector: BTreeMap::new(),
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
                name: format!("port-{number}"),
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
            node: node.map(|here| if here { HERE } else { "elsewhere" }.to_owned()),
            zone_hints: names("zone-", &zones),
            node_hints: nodes
                .iter()
                .map(|i| [HERE, "elsewhere"][usize::from(*i)].to_owned())
                .collect(),
        },
    )
}

fn names(prefix: &str, numbers: &BTreeSet<u8>) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("{prefix}{number}")).collect()
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)]
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop_oneof![Just(TrafficPolicy::Cluster), Just(TrafficPolicy::Local)]
}
