//! The cells of the matrix: client, frontend and endpoints. All Services are in one cluster and on one
//! node, that of the packet cases ([`topology`]), so that the kernel tests can send the same packets.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Family, Protocol};
use lb_common::maps::Capacities;
use lb_common::service::SourceClass;
use lb_ebpf::cases::topology::{self, Pod, Topology};
use lb_ebpf::in_memory::{FamilyRows, Rows};
use lb_userspace::maps::{Contents, References};
use lb_userspace::model::{
    Affinity, Cluster, DeviceRole, Endpoint, EndpointPort, EndpointSlice, LocalNode, Name,
    NodeDevice, Service, ServicePort, ServiceType, Sockets, TrafficPolicy,
};
use lb_userspace::plan::{NodePortAddresses, Settings, Skip, plan};

/// The endpoints of a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoints {
    Local,
    Remote,
    Both,
    /// Local and remote, all terminating.
    Terminating,
    None,
}

impl Endpoints {
    const ALL: [Self; 5] = [Self::Local, Self::Remote, Self::Both, Self::Terminating, Self::None];

    pub fn pods(self) -> &'static [Pod] {
        match self {
            Self::Local => &[Pod::Local],
            Self::Remote => &[Pod::Remote],
            Self::Both | Self::Terminating => &[Pod::Local, Pod::Remote],
            Self::None => &[],
        }
    }
}

/// What the frontend's address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontendKind {
    ClusterIp,
    NodePort,
    Vip,
    ExternalIp,
}

impl FrontendKind {
    const ALL: [Self; 4] = [Self::ClusterIp, Self::NodePort, Self::Vip, Self::ExternalIp];
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub class: SourceClass,
    pub frontend: FrontendKind,
    pub policy: TrafficPolicy,
    pub endpoints: Endpoints,
    pub family: Family,
    pub protocol: Protocol,
}

pub const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
const POLICIES: [TrafficPolicy; 2] = [TrafficPolicy::Cluster, TrafficPolicy::Local];
const PORT: u16 = 80;

/// Every cell.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (policy, endpoints) in services() {
        for class in SourceClass::ALL {
            for frontend in FrontendKind::ALL {
                for family in Family::ALL {
                    cells.extend(PROTOCOLS.map(|protocol| Cell {
                        class,
                        frontend,
                        policy,
                        endpoints,
                        family,
                        protocol,
                    }));
                }
            }
        }
    }
    cells
}

fn services() -> impl Iterator<Item = (TrafficPolicy, Endpoints)> {
    POLICIES.into_iter().flat_map(|policy| Endpoints::ALL.map(|endpoints| (policy, endpoints)))
}

impl Cell {
    /// The source of the `flow`th flow of the `number`th cell.
    pub fn source(&self, number: u16, flow: u16) -> SocketAddr {
        let port = 30_000 + number * FLOWS + flow;
        let topology = Topology { family: self.family };
        match self.class {
            SourceClass::Pod => topology.client_pod(port),
            SourceClass::Network => topology.client(port),
            SourceClass::Host => topology.node(port),
        }
    }

    /// The destination of its flows.
    pub fn destination(&self) -> SocketAddr {
        let number = self.service();
        match self.frontend {
            FrontendKind::ClusterIp => SocketAddr::new(cluster_ip(self.family, number), PORT),
            FrontendKind::NodePort => Topology { family: self.family }.node(node_port(number)),
            FrontendKind::Vip => SocketAddr::new(vip(self.family, number), PORT),
            FrontendKind::ExternalIp => SocketAddr::new(external_ip(self.family, number), PORT),
        }
    }

    fn service(&self) -> u8 {
        let is_it = |service| service == (self.policy, self.endpoints);
        services().position(is_it).expect("a Service for every cell") as u8 + 1
    }
}

/// Flows per cell.
pub const FLOWS: u16 = 16;

fn cluster_ip(family: Family, number: u8) -> IpAddr {
    ip(family, &format!("10.96.1.{number}"), &format!("fd00:96:1::{number}"))
}

fn vip(family: Family, number: u8) -> IpAddr {
    ip(family, &format!("203.0.113.{number}"), &format!("2001:db8:71::{number}"))
}

fn external_ip(family: Family, number: u8) -> IpAddr {
    ip(family, &format!("203.0.113.1{number:02}"), &format!("2001:db8:e1::{number}"))
}

fn node_port(number: u8) -> u16 {
    30_000 + u16::from(number)
}

fn ip(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = if family == Family::V4 { v4 } else { v6 };
    text.parse().expect("written by hand")
}

/// What the maps of the node hold for all of them.
pub fn contents(device: u32) -> Contents {
    let mut cluster = Cluster { synced: true, ..Cluster::default() };
    for (number, (policy, endpoints)) in (1..).zip(services()) {
        let service = service(number, policy);
        for family in Family::ALL {
            let slice = slice(&service.name, family, endpoints);
            cluster.slices.insert(slice.name.clone(), Box::new(slice));
        }
        cluster.services.insert(service.name.clone(), Box::new(service));
    }
    let own = Family::ALL.map(|family| Topology { family }.node(0).ip());
    let net0 = NodeDevice {
        index: device,
        name: "net0".to_owned(),
        role: Some(DeviceRole::Network),
        addresses: own.to_vec(),
        default_routes: Default::default(),
        xdp_sends: true,
        has_link_header: true,
        link: topology::NODE_LINK,
    };
    let local_node =
        LocalNode { name: "node-1".to_owned(), devices: vec![net0], routes_by_source: false };
    plan(&cluster, &local_node, &settings(), &Contents::default(), &References::default()).contents
}

fn service(number: u8, policy: TrafficPolicy) -> Service {
    let both = |of: fn(Family, u8) -> IpAddr| Family::ALL.map(|family| of(family, number)).to_vec();
    let port = |protocol: Protocol| ServicePort {
        name: protocol.to_string().as_str().into(),
        protocol,
        port: PORT,
        node_port: Some(node_port(number)),
    };
    Service {
        name: Name::new("default", format!("service-{number}")),
        kind: ServiceType::LoadBalancer,
        cluster_ips: both(cluster_ip),
        headless: false,
        other_proxy: false,
        ports: PROTOCOLS.map(port).to_vec(),
        external_ips: both(external_ip),
        load_balancer_ips: both(vip),
        source_ranges: None,
        internal_policy: policy,
        external_policy: policy,
        health_check_port: None,
        affinity: Affinity::None,
    }
}

fn slice(service: &Name, family: Family, endpoints: Endpoints) -> EndpointSlice {
    let is_terminating = endpoints == Endpoints::Terminating;
    let endpoint = |pod: &Pod| Endpoint {
        address: Topology { family }.pod(*pod, 0).ip(),
        ready: !is_terminating,
        serving: true,
        terminating: is_terminating,
        node: Some(if *pod == Pod::Local { "node-1" } else { "node-2" }.into()),
        hints: None,
    };
    let port = |protocol: Protocol| EndpointPort {
        name: protocol.to_string().as_str().into(),
        protocol,
        port: topology::BACKEND_PORT,
    };
    EndpointSlice {
        name: Name::new("default", format!("{}-{family}", service.name)),
        service: service.clone(),
        family,
        headless: false,
        ports: PROTOCOLS.map(port).to_vec(),
        endpoints: endpoints.pods().iter().map(endpoint).collect(),
        triggered: None,
    }
}

fn settings() -> Settings {
    Settings {
        nodeport_addresses: NodePortAddresses::default(),
        skip: Skip::default(),
        capacities: Capacities {
            services: 1000,
            frontends: 1000,
            slots: 20_000,
            backends: 1000,
            conntrack: 1000,
            half_open: 1000,
            affinity: 1000,
            processors: 1,
        },
        honours_external_ips: true,
        snat_tiers: topology::SNAT_TIERS,
        sockets: Sockets { namespace: 1, of_pods: false },
    }
}

/// The same as rows in plain collections, as the kernel tests write them.
pub fn rows(contents: &Contents) -> Rows {
    let end =
        contents.slots.iter().map(|(base, slots)| *base as usize + slots.len() as usize).max();
    let mut slots = vec![lb_common::backend::BackendId(0); end.unwrap_or(0)];
    for (base, pool) in &contents.slots {
        slots[*base as usize..][..pool.len() as usize]
            .copy_from_slice(pool.ids().expect("planned anew"));
    }
    let settings = contents.settings;
    Rows {
        v4: family_rows(contents),
        v6: family_rows(contents),
        slots,
        snat_tiers: settings.snat_tiers,
        services: Some((settings.services_v4, settings.services_v6)),
        own: Some((settings.own_v4, settings.own_v6)),
    }
}

fn family_rows<A: lb_userspace::maps::contents::InContents>(contents: &Contents) -> FamilyRows<A> {
    let rows = A::rows(contents);
    FamilyRows {
        frontends: rows.frontends.clone(),
        backends: rows.backends.clone(),
        ip_policies: rows.ip_policies.clone(),
        source_ranges: rows.source_ranges.keys().copied().collect(),
    }
}
