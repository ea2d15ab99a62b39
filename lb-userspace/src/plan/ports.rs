//! Which Service ports are balanced at all, which wishes of their Services are not granted, and
//! which endpoints stand behind each: its slices joined, each address and port once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use lb_common::address::{self, Address};
use lb_common::service::ServiceLabel;

use crate::model::{
    Cluster, Endpoint, EndpointPort, EndpointSlice, Name, Service, ServicePort, ServiceType,
    Warning,
};

/// A Service port that is balanced.
pub(super) struct Port<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) label: ServiceLabel,
}

impl Port<'_> {
    /// Whether node ports of family `A` are to answer for it.
    pub(super) fn has_node_port<A: Address>(&self) -> bool {
        self.port.node_port.is_some() && self.cluster_ip::<A>().is_some()
    }

    /// Its cluster IP of family `A`. A Service has no part in a family that it has none of, whatever
    /// other addresses it has, as kube-proxy sees it.
    pub(super) fn cluster_ip<A: Address>(&self) -> Option<A> {
        self.service.cluster_ips.iter().find_map(|ip| A::from_ip(*ip))
    }
}

impl fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}", self.service.name)?;
        if self.port.name.is_empty() { Ok(()) } else { write!(f, ", port {}", self.port.name) }
    }
}

/// All Service ports to balance, by name of Service, then in the Service's order.
pub(super) fn balanced<'a>(
    cluster: &'a Cluster,
    honours_external_ips: bool,
    warnings: &mut Vec<Warning>,
) -> Vec<Port<'a>> {
    let mut ports = Vec::new();
    for service in cluster.services.values().filter(|service| !service.other_proxy) {
        if let Some(reason) = not_balanced(service) {
            warnings.push(warning(service, reason));
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

fn warning(service: &Service, text: impl Into<String>) -> Warning {
    Warning { about: format!("Service {}", service.name), text: text.into() }
}

fn not_balanced(service: &Service) -> Option<&'static str> {
    if service.kind == ServiceType::ExternalName {
        Some("is of type ExternalName, which is DNS alone: nothing to balance")
    } else if service.headless {
        Some("is headless: its clients find the endpoints by DNS, nothing to balance")
    } else if service.cluster_ips.is_empty() {
        Some("has no cluster IP, so it is not balanced: set spec.clusterIP")
    } else {
        None
    }
}

fn balanced_port<'a>(service: &'a Service, port: &'a ServicePort) -> Result<Port<'a>, String> {
    let (namespace, name) = (&service.name.namespace, &service.name.name);
    let label = ServiceLabel::new(namespace, name, &port.name, port.protocol).ok_or_else(|| {
        format!("port {} is not balanced: a name is longer than 63 bytes; shorten it", port.port)
    })?;
    Ok(Port { service, port, label })
}

/// The slices of every Service.
pub(super) struct Endpoints<'a> {
    slices: HashMap<&'a Name, Vec<&'a EndpointSlice>>,
}

/// The endpoints of a Service port by what tells them apart.
pub(super) type ByAddress<'a, A> = BTreeMap<(A, address::Port), &'a Endpoint>;

impl<'a> Endpoints<'a> {
    /// The endpoints of `cluster`; headless slices are not for proxies.
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in cluster.slices.values().filter(|slice| !slice.headless) {
            slices.entry(&slice.service).or_default().push(slice);
        }
        Self { slices }
    }

    /// The endpoints in family `A` of a Service port: those of all slices' ports that bear its name
    /// and protocol.
    pub(super) fn of_port<A: Address>(&self, port: &Port<'_>) -> ByAddress<'a, A> {
        let mut joined = BTreeMap::new();
        let slices = self.slices.get(&port.service.name).into_iter().flatten();
        for slice in slices.filter(|slice| slice.family == A::FAMILY) {
            let ports = slice.ports.iter();
            let same = |p: &&_| is_joined(p, port);
            for number in ports.filter(same).map(|p| address::Port::new(p.port)) {
                for endpoint in &slice.endpoints {
                    if let Some(address) = A::from_ip(endpoint.address) {
                        better_of(&mut joined, (address, number), endpoint);
                    }
                }
            }
        }
        joined
    }
}

fn is_joined(slice_port: &EndpointPort, port: &Port<'_>) -> bool {
    slice_port.name == port.port.name && slice_port.protocol == port.port.protocol
}

/// While an endpoint moves between slices it stands in both, and while a pod's address passes to
/// another pod the old one is still terminating (kubernetes#135593): the livelier one counts.
fn better_of<'a, A: Ord>(
    joined: &mut ByAddress<'a, A>,
    key: (A, address::Port),
    new: &'a Endpoint,
) {
    let liveliness = |e: &Endpoint| (!e.terminating, e.ready, e.serving);
    let kept = joined.entry(key).or_insert(new);
    if liveliness(kept) < liveliness(new) {
        *kept = new;
    }
}
