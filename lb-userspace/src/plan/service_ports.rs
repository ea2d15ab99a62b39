//! Which Service ports are balanced, with warnings about what is not, and the endpoints of each: the
//! slices of its Service joined, each address and port once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use lb_common::address::{self, Address, Family};
use lb_common::service::ServiceLabel;

use crate::model::{Endpoint, EndpointPort, EndpointSlice, Name, Service, ServicePort, Warning};

/// A Service port that is balanced.
pub(super) struct BalancedPort<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    pub(super) label: ServiceLabel,
    /// Whether it is planned now, or there to tell who else claims its frontends.
    pub(super) is_planned: bool,
}

impl BalancedPort<'_> {
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

/// Whether Weir serves this Service, if it has an address.
pub(super) fn is_served(service: &Service) -> bool {
    !service.other_proxy && !service.is_dns_alone()
}

/// Whether a Service has a cluster IP of this family, without which it is not served there.
pub(super) fn has_cluster_ip(service: &Service, family: Family) -> bool {
    service.cluster_ips.iter().any(|ip| Family::of(ip) == family)
}

/// The ports of a Service that can be served.
pub(super) fn served_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.ports.iter().filter(|port| label(service, port).is_some())
}

/// The Service ports of `services` to balance, in the order of their specs.
pub(super) fn balanced<'a>(
    services: impl Iterator<Item = (&'a Service, bool)>,
    honours_external_ips: bool,
    warnings: &mut Vec<Warning>,
) -> Vec<BalancedPort<'a>> {
    let mut ports = Vec::new();
    for (service, is_planned) in services.filter(|(service, _)| is_served(service)) {
        let mut warn = |text: String| {
            if is_planned {
                warnings.push(Warning { about: about(&service.name), text });
            }
        };
        if service.cluster_ips.is_empty() {
            warn(NO_CLUSTER_IP.into());
            continue;
        }
        if !honours_external_ips && !service.external_ips.is_empty() {
            warn(EXTERNAL_IPS_IGNORED.into());
        }
        for port in &service.ports {
            match label(service, port) {
                Some(label) => ports.push(BalancedPort { service, port, label, is_planned }),
                None => warn(format!(
                    "port {} is not balanced: a name is longer than 63 bytes; shorten it",
                    port.port
                )),
            }
        }
    }
    ports
}

/// What warnings about the Service with this name are about.
pub(super) fn about(service: &Name) -> String {
    format!("Service {service}")
}

const EXTERNAL_IPS_IGNORED: &str = "spec.externalIPs is ignored, as --external-ips says: give the \
                                    Service a load balancer, or restart weir with honour";

const NO_CLUSTER_IP: &str = "has no cluster IP, so it is not balanced: set spec.clusterIP";

fn label(service: &Service, port: &ServicePort) -> Option<ServiceLabel> {
    let Name { namespace, name } = &service.name;
    ServiceLabel::new(namespace, name, &port.name, port.protocol)
}

/// The slices of Services.
pub(super) struct Endpoints<'a> {
    slices: HashMap<&'a Name, Vec<&'a EndpointSlice>>,
}

/// The endpoints of a Service port, by address and port.
pub(super) type ByAddress<'a, A> = BTreeMap<(A, address::Port), &'a Endpoint>;

impl<'a> Endpoints<'a> {
    /// The endpoints in `all`, without headless slices, which proxies ignore.
    pub(super) fn of(all: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in all.filter(|slice| !slice.headless) {
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
