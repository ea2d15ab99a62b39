//! Which Service ports are balanced, with warnings about what is not, and the endpoints of each: the
//! slices of its Service joined, each address and port once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use lb_common::address::{self, Address};
use lb_common::service::ServiceLabel;

use crate::model::{
    Cluster, Endpoint, EndpointPort, EndpointSlice, Name, Service, ServicePort, ServiceType,
    Warning,
};

/// A Service port that is balanced.
pub(super) struct BalancedPort<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) label: ServiceLabel,
}

impl BalancedPort<'_> {
    /// Whether it has a node port in family `A`.
    pub(super) fn has_node_port<A: Address>(&self) -> bool {
        self.port.node_port.is_some() && self.cluster_ip::<A>().is_some()
    }

    /// Its cluster IP of family `A`. As for kube-proxy, a Service without a cluster IP of a family is
    /// not served in that family, whatever other addresses it has.
    pub(super) fn cluster_ip<A: Address>(&self) -> Option<A> {
        self.service.cluster_ips.iter().find_map(|ip| A::from_ip(*ip))
    }
}

impl fmt::Display for BalancedPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}", self.service.name)?;
        if self.port.name.is_empty() { Ok(()) } else { write!(f, ", port {}", self.port.name) }
    }
}

/// All Service ports to balance, by name of Service, then in the order of its spec.
pub(super) fn balanced<'a>(
    cluster: &'a Cluster,
    honours_external_ips: bool,
    warnings: &mut Vec<Warning>,
) -> Vec<BalancedPort<'a>> {
    let mut ports = Vec::new();
    for service in cluster.services.values().filter(|service| !service.other_proxy) {
        if service.headless || service.kind == ServiceType::ExternalName {
            // They are DNS alone, as whoever made them wanted.
            continue;
        }
        if service.cluster_ips.is_empty() {
            warnings.push(warning(service, NO_CLUSTER_IP));
            continue;
        }
        if !honours_external_ips && !service.external_ips.is_empty() {
            warnings.push(warning(service, EXTERNAL_IPS_IGNORED));
        }
        for port in &service.ports {
            match balanced_port(service, port) {
                Ok(port) => ports.push(port),
                Err(text) => warnings.push(warning(service, text)),
            }
        }
    }
    ports
}

const EXTERNAL_IPS_IGNORED: &str = "spec.externalIPs is ignored, as --external-ips says: give the \
                                    Service a load balancer, or restart weir with honour";

const NO_CLUSTER_IP: &str = "has no cluster IP, so it is not balanced: set spec.clusterIP";

fn warning(service: &Service, text: impl Into<String>) -> Warning {
    Warning { about: format!("Service {}", service.name), text: text.into() }
}

fn balanced_port<'a>(
    service: &'a Service,
    port: &'a ServicePort,
) -> Result<BalancedPort<'a>, String> {
    let (namespace, name) = (&service.name.namespace, &service.name.name);
    let label = ServiceLabel::new(namespace, name, &port.name, port.protocol).ok_or_else(|| {
        format!("port {} is not balanced: a name is longer than 63 bytes; shorten it", port.port)
    })?;
    Ok(BalancedPort { service, port, label })
}

/// The slices of every Service.
pub(super) struct Endpoints<'a> {
    slices: HashMap<&'a Name, Vec<&'a EndpointSlice>>,
}

/// The endpoints of a Service port, by address and port.
pub(super) type ByAddress<'a, A> = BTreeMap<(A, address::Port), &'a Endpoint>;

impl<'a> Endpoints<'a> {
    /// The endpoints of `cluster`, without headless slices, which proxies ignore.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in cluster.slices.values().filter(|slice| !slice.headless) {
            slices.entry(&slice.service).or_default().push(slice);
        }
        Self { slices }
    }

    /// The endpoints of a Service port in family `A`, from the slice ports with its name and protocol.
    pub(super) fn of_port<A: Address>(&self, port: &BalancedPort<'_>) -> ByAddress<'a, A> {
        let mut joined = BTreeMap::new();
        let slices = self.slices.get(&port.service.name).into_iter().flatten();
        for slice in slices.filter(|slice| slice.family == A::FAMILY) {
            let ports = slice.ports.iter();
            let same = |p: &&_| matches_port(p, port);
            for number in ports.filter(same).map(|p| address::Port::new(p.port)) {
                for endpoint in &slice.endpoints {
                    if let Some(address) = A::from_ip(endpoint.address) {
                        keep_better(&mut joined, (address, number), endpoint);
                    }
                }
            }
        }
        joined
    }
}

fn matches_port(slice_port: &EndpointPort, port: &BalancedPort<'_>) -> bool {
    slice_port.name == port.port.name && slice_port.protocol == port.port.protocol
}

/// An endpoint that moves between slices is in both for a while, and when a pod's address is reused the
/// old endpoint may still be terminating (kubernetes#135593): the one in the better state is kept.
fn keep_better<'a, A: Ord>(
    joined: &mut ByAddress<'a, A>,
    key: (A, address::Port),
    new: &'a Endpoint,
) {
    let state = |e: &Endpoint| (!e.terminating, e.ready, e.serving);
    let kept = joined.entry(key).or_insert(new);
    if state(kept) < state(new) {
        *kept = new;
    }
}
