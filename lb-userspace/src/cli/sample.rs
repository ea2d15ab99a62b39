//! A small node for the tests of `weir show` and `weir explain`: a Service with a local and a remote
//! backend, one without any, and one of IPv6.

use std::net::IpAddr;

use lb_common::address::{Family, Protocol};
use lb_common::maps::Capacities;
use lb_common::snat::{Rows, TIERS};

use crate::agent::status::{DeviceStatus, Status, WarningText};
use crate::maps::{Contents, References};
use crate::model::{
    Affinity, Cluster, DeviceRole, Endpoint, EndpointPort, EndpointSlice, LocalNode, Name, Node,
    NodeDevice, Service, ServicePort, ServiceType, Sockets, TrafficPolicy,
};
use crate::plan::{NodePortAddresses, Settings, Skip, plan};

/// The contents of that node's maps.
pub fn contents() -> Contents {
    planned(&cluster())
}

/// Their contents for another cluster.
pub fn planned(cluster: &Cluster) -> Contents {
    of(cluster, Sockets::default())
}

/// Their contents for another cluster with load balancing of all sockets, those of pods too.
pub fn planned_for_sockets(cluster: &Cluster) -> Contents {
    of(cluster, Sockets { namespace: 7, of_pods: true })
}

fn of(cluster: &Cluster, sockets: Sockets) -> Contents {
    let settings = Settings { sockets, ..settings() };
    plan(cluster, &here(), &settings, &Contents::default(), &References::default()).contents
}

/// The cluster it is in.
pub fn cluster() -> Cluster {
    let mut cluster = Cluster { synced: true, ..Cluster::default() };
    let node =
        Node { name: "here".into(), addresses: vec![ip("192.0.2.1")], zone: None, leaving: false };
    cluster.nodes.insert("here".into(), node);
    let cidrs = ["10.96.0.0/16", "fd00:96::/112"].map(|range| range.parse().unwrap());
    cluster.service_cidrs.insert("kubernetes".into(), cidrs.into());
    serve(
        &mut cluster,
        service("web", "10.96.0.1", 80, Some(30080)),
        &["10.244.1.1", "10.244.2.1"],
    );
    serve(&mut cluster, service("idle", "10.96.0.2", 81, None), &[]);
    serve(&mut cluster, service("six", "fd00:96::1", 80, None), &["fd00:244::1"]);
    cluster
}

/// The status of that node's agent.
pub fn status() -> Status {
    Status {
        process: 7,
        started: 1_700_000_000,
        version: "0.1.0".into(),
        node: "here".into(),
        ready: true,
        tc: "tcx".into(),
        socket_balancing: "host".into(),
        cgroup: Some("/sys/fs/cgroup".into()),
        warnings: vec![WarningText {
            about: "Service default/idle".into(),
            text: "is not balanced".into(),
        }],
        errors: Vec::new(),
        devices: vec![DeviceStatus {
            name: "eth0".into(),
            index: 2,
            role: "network".into(),
            reason: "the default route leaves by it".into(),
            attach_points: vec!["ingress".into(), "egress".into()],
            without_xdp: Some("its driver has none".into()),
        }],
    }
}

fn serve(cluster: &mut Cluster, service: Service, addresses: &[&str]) {
    let family = Family::of(&service.cluster_ips[0]);
    let endpoint = |address: &&str| Endpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(if address.contains(".2.") { "there" } else { "here" }.into()),
        hints: None,
    };
    let slice = EndpointSlice {
        name: service.name.clone(),
        service: service.name.clone(),
        family,
        headless: false,
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }],
        endpoints: addresses.iter().map(endpoint).collect(),
        triggered: None,
    };
    cluster.slices.insert(slice.name.clone(), Box::new(slice));
    cluster.services.insert(service.name.clone(), Box::new(service));
}

fn service(name: &str, cluster_ip: &str, port: u16, node_port: Option<u16>) -> Service {
    Service {
        name: Name::new("default", name),
        kind: ServiceType::NodePort,
        cluster_ips: vec![ip(cluster_ip)],
        headless: false,
        other_proxy: false,
        ports: vec![ServicePort { name: "http".into(), protocol: Protocol::TCP, port, node_port }],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_port: None,
        affinity: Affinity::None,
    }
}

fn here() -> LocalNode {
    let device = |index, name: &str, role, addresses: &[&str]| NodeDevice {
        index,
        name: name.into(),
        role: Some(role),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        default_routes: Default::default(),
        xdp_sends: false,
        has_link_header: true,
        link: [0; 6],
    };
    let eth0 = device(2, "eth0", DeviceRole::Network, &["192.0.2.1"]);
    let devices = vec![eth0, device(5, "veth1", DeviceRole::Pod, &[])];
    LocalNode { name: "here".into(), devices, routes_by_source: false }
}

fn settings() -> Settings {
    Settings {
        nodeport_addresses: NodePortAddresses::default(),
        skip: Skip::default(),
        capacities: Capacities {
            services: 1000,
            frontends: 1000,
            slots: 100_000,
            backends: 1000,
            conntrack: 1000,
            half_open: 1000,
            affinity: 1000,
            processors: 1,
        },
        honours_external_ips: true,
        snat_tiers: [Rows::of_spans(60, 63); TIERS],
        sockets: Sockets::default(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
