//! A Service, as far as a proxy reads it.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::address::Protocol;

use super::name::{Name, SharedText};

/// A Kubernetes Service. Addresses are parsed and normalised; entries that could not be parsed are
/// left out by the source with a warning.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Namespace and name.
    pub name: Name,
    /// `spec.type`
    pub kind: ServiceType,
    /// `spec.clusterIPs`, or `spec.clusterIP` where that is all there is; one per family at most.
    /// Empty for headless and ExternalName Services.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.clusterIP: None`
    pub headless: bool,
    /// Another proxy serves it: label `service.kubernetes.io/service-proxy-name` is set, or `--skip` names it.
    pub other_proxy: bool,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is `VIP` or absent.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; `None` without any. If none of them could be parsed, the list
    /// is empty, and no client is within it.
    pub source_ranges: Option<Vec<IpNet>>,
    /// `spec.internalTrafficPolicy`
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`
    pub external_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`, where there is one. It means something only with type LoadBalancer
    /// and `spec.externalTrafficPolicy` Local.
    pub health_check_port: Option<u16>,
    /// `spec.sessionAffinity`
    pub affinity: Affinity,
}

impl Service {
    /// Whether it is names in the DNS alone: headless, or of type ExternalName.
    #[must_use]
    pub fn is_dns_alone(&self) -> bool {
        self.headless || self.kind == ServiceType::ExternalName
    }
}

/// `spec.type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceType {
    /// `ClusterIP`
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
    /// `ExternalName`: DNS alone, never programmed.
    ExternalName,
}

/// One of a Service's ports. What it is joined to is an [`super::EndpointPort`] of the same name
/// and protocol; `targetPort` is read only by the source that makes slices out of Pods.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Name, empty where it has none.
    pub name: SharedText,
    /// Protocol: TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port that clients connect to at the Service's addresses, 1 to 65535.
    pub port: u16,
    /// The port that clients connect to at nodes' addresses, if any.
    pub node_port: Option<u16>,
}

/// Which endpoints a class of clients may get.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

/// Whether a client keeps its endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Affinity {
    /// No.
    #[default]
    None,
    /// By its address, until it has begun no flow for so many seconds (1 to 86,400).
    ClientIp {
        /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds`
        timeout_seconds: u32,
    },
}
