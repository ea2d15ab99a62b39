//! Endpoints out of Pods: what the cluster's EndpointSlice controller does for a Service with a
//! selector (`k8s.io/endpointslice`, `reconciler.go` and `utils.go`). Used where no EndpointSlice
//! serves the Service, as in hand-written manifests.
//!
//! One difference: a Pod without any `status.conditions` whose phase is Running or absent counts as
//! ready, since manifests written by hand have no conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lb_common::address::{Family, Protocol};

use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Name, Service, ServiceType, SharedText, Warning,
};
use crate::source::convert::{self, Warnings};

/// The slices of `service`, of which `object` is Kubernetes' form, made from those of `pods` that
/// its selector matches; `pods` are of its namespace. None for a Service that is not balanced.
///
/// Pods with the same port numbers share a slice; a port named by a string may have another number
/// in each pod.
pub(super) fn slices<'a>(
    service: &Service,
    object: &core::Service,
    pods: impl IntoIterator<Item = &'a core::Pod>,
) -> (Vec<EndpointSlice>, Vec<Warning>) {
    let mut warnings = Warnings::about("Service", &service.name);
    let is_balanced = !service.headless && service.kind != ServiceType::ExternalName;
    let Some(selector) = selector(object).filter(|_| is_balanced) else {
        return (Vec::new(), Vec::new());
    };
    let targets = targets(service, object, &mut warnings);
    let families = families(service, object);
    let publish_not_ready =
        object.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);

    let mut grouped: BTreeMap<(Family, Vec<EndpointPort>), Vec<Endpoint>> = BTreeMap::new();
    let mut unresolved = Unresolved::default();
    for pod in pods.into_iter().filter(|pod| is_selected(pod, selector) && !has_ended(pod)) {
        let ports = ports(pod, &targets, &mut unresolved);
        if ports.is_empty() {
            continue;
        }
        for (family, endpoint) in endpoints(pod, &families, publish_not_ready, &mut warnings) {
            grouped.entry((family, ports.clone())).or_default().push(endpoint);
        }
    }
    unresolved.warn(&mut warnings);
    let slices = grouped.into_iter().map(|((family, ports), endpoints)| EndpointSlice {
        name: slice_name(&service.name, family, &ports),
        service: service.name.clone(),
        family,
        headless: false,
        ports,
        endpoints,
        triggered: None,
    });
    (slices.collect(), warnings.into_list())
}

/// A name that no EndpointSlice of Kubernetes can have, and that stays the same while its pods
/// come and go.
fn slice_name(service: &Name, family: Family, ports: &[EndpointPort]) -> Name {
    let numbers: Vec<String> =
        ports.iter().map(|port| format!("{}={}", port.name, port.port)).collect();
    Name::new(&service.namespace, format!("{}~{family}~{}", service.name, numbers.join(",")))
}

/// Where a Service's port leads to in a pod.
struct Target {
    name: SharedText,
    protocol: Protocol,
    port: TargetPort,
}

enum TargetPort {
    Number(u16),
    Name(String),
}

fn targets(service: &Service, object: &core::Service, warnings: &mut Warnings) -> Vec<Target> {
    let written = object.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut targets = Vec::new();
    for port in &service.ports {
        let as_written = written.iter().find(|written| {
            i32::from(port.port) == written.port
                && written.name.as_deref().unwrap_or_default() == &*port.name
        });
        let target = match as_written.and_then(|written| written.target_port.as_ref()) {
            None | Some(IntOrString::Int(0)) => Some(TargetPort::Number(port.port)),
            Some(IntOrString::Int(number)) => {
                convert::port_number("spec.ports.targetPort", *number, warnings)
                    .map(TargetPort::Number)
            }
            Some(IntOrString::String(name)) if name.is_empty() => {
                Some(TargetPort::Number(port.port))
            }
            Some(IntOrString::String(name)) => Some(TargetPort::Name(name.clone())),
        };
        targets.extend(target.map(|target| Target {
            name: port.name.clone(),
            protocol: port.protocol,
            port: target,
        }));
    }
    targets
}

fn families(service: &Service, object: &core::Service) -> BTreeSet<Family> {
    let written =
        object.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let mut families: BTreeSet<Family> = written
        .iter()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect();
    families.extend(service.cluster_ips.iter().map(Family::of));
    if families.is_empty() {
        families.extend(Family::ALL);
    }
    families
}

/// `spec.selector`; `None` where endpoints are made by hand.
pub(super) fn selector(object: &core::Service) -> Option<&BTreeMap<String, String>> {
    object.spec.as_ref()?.selector.as_ref().filter(|labels| !labels.is_empty())
}

fn is_selected(pod: &core::Pod, selector: &BTreeMap<String, String>) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn phase(pod: &core::Pod) -> Option<&str> {
    let phase = pod.status.as_ref()?.phase.as_deref()?;
    (!phase.is_empty()).then_some(phase)
}

fn has_ended(pod: &core::Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &core::Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    match conditions {
        None | Some([]) => matches!(phase(pod), None | Some("Running")),
        Some(conditions) => conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
    }
}

/// Ports that some pods have not, by the Service port's name and the name it looks for.
#[derive(Default)]
struct Unresolved(BTreeMap<(String, String), Vec<String>>);

impl Unresolved {
    fn warn(self, warnings: &mut Warnings) {
        for ((port, target), pods) in self.0 {
            let (count, first) = (pods.len(), pods.first().map_or("", String::as_str));
            warnings.add(format!(
                "port {port:?} leads to the container port {target:?}, which {count} of its pods \
                 (first: {first}) do not have: they get none of that port's traffic; name a \
                 container's port so, or give targetPort a number"
            ));
        }
    }
}

fn ports(pod: &core::Pod, targets: &[Target], unresolved: &mut Unresolved) -> Vec<EndpointPort> {
    let mut ports = Vec::new();
    for target in targets {
        let port = match &target.port {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => {
                let port = container_port(pod, name, target.protocol);
                if port.is_none() {
                    let key = (target.name.to_string(), name.clone());
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    unresolved.0.entry(key).or_default().push(name);
                }
                port
            }
        };
        ports.extend(port.map(|port| EndpointPort {
            name: target.name.clone(),
            protocol: target.protocol,
            port,
        }));
    }
    ports
}

/// The number of the port of this name and protocol: of a container, else of a sidecar (an init
/// container that is restarted always, KEP-753).
fn container_port(pod: &core::Pod, name: &str, protocol: Protocol) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let found = ports.into_iter().find(|port| {
        let written = port.protocol.as_deref().unwrap_or("TCP");
        port.name.as_deref() == Some(name) && written.eq_ignore_ascii_case(&protocol.to_string())
    });
    found.and_then(|port| u16::try_from(port.container_port).ok()).filter(|port| *port != 0)
}

/// The pod's endpoint in each of `families` that it has an address in.
fn endpoints(
    pod: &core::Pod,
    families: &BTreeSet<Family>,
    publish_not_ready: bool,
    warnings: &mut Warnings,
) -> Vec<(Family, Endpoint)> {
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let addresses = addresses(pod, warnings);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    families
        .iter()
        .filter_map(|family| {
            let address = *addresses.iter().find(|address| Family::of(address) == *family)?;
            Some((
                *family,
                Endpoint {
                    address,
                    ready: publish_not_ready || (serving && !terminating),
                    serving,
                    terminating,
                    node: node.map(Into::into),
                    hints: None,
                },
            ))
        })
        .collect()
}

fn addresses(pod: &core::Pod, warnings: &mut Warnings) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let several = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let one = status.pod_ip.as_deref().filter(|_| status.pod_ips.is_none());
    let texts = several.chain(one).filter(|text| !text.is_empty());
    let field = format!("podIP of its pod {}", pod.metadata.name.as_deref().unwrap_or_default());
    convert::addresses(&field, texts, warnings)
}

#[cfg(test)]
mod tests;
