//! What a Service claims, by its spec alone.

use std::net::IpAddr;

use lb_common::address::{Family, Protocol};

use crate::model::Service;
use crate::plan::service_ports::{has_cluster_ip, is_served, served_ports};

/// A frontend as Services claim it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Claimed {
    /// `None` for a node port, which is claimed at all addresses of this node that have them.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

/// The frontends that a Service claims, at least.
pub(super) fn claimed(service: &Service) -> impl Iterator<Item = Claimed> {
    let ports = service.ports.iter().filter(|_| is_served(service));
    ports.flat_map(move |port| {
        let protocol = port.protocol;
        let of_node = port.node_port.map(|port| Claimed { address: None, port, protocol });
        let at = move |ip| Claimed { address: Some(ip), port: port.port, protocol };
        addresses(service).map(at).chain(of_node)
    })
}

/// All addresses of a Service.
pub(super) fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let external = service.load_balancer_ips.iter().chain(&service.external_ips);
    service.cluster_ips.iter().chain(external).copied()
}

/// The cluster IPs that are of a Service with such.
pub(super) fn cluster_ips(service: &Service) -> impl Iterator<Item = IpAddr> {
    service.cluster_ips.iter().filter(|_| !service.is_dns_alone()).copied()
}

/// The families of a Service's node ports, each once for every port.
pub(super) fn node_ports(service: &Service) -> impl Iterator<Item = Family> {
    let ports = served_ports(service).filter(|port| port.node_port.is_some());
    ports.filter(|_| is_served(service)).flat_map(move |_| {
        Family::ALL.into_iter().filter(move |family| has_cluster_ip(service, *family))
    })
}
