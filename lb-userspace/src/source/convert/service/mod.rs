//! Service.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use lb_common::address::Family;

use super::metadata::{has_label, name};
use super::service_cidr::range;
use super::warnings::Warnings;
use super::{address, port};
use crate::model::{
    Affinity, Service, ServicePort, ServiceType, SharedText, TrafficPolicy, Warning,
};

/// The label by which another proxy claims a Service, whatever its value.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is absent: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The Service that `object` describes, and what of it is not honoured.
pub(crate) fn service(object: &core::Service) -> (Service, Vec<Warning>) {
    let own = name(&object.metadata);
    let mut warnings = Warnings::about("Service", &own);
    let spec = object.spec.clone().unwrap_or_default();
    let kind = kind(spec.type_.as_deref(), &mut warnings);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let is_dns_alone = headless || kind == ServiceType::ExternalName;
    let cluster_ips = if is_dns_alone { Vec::new() } else { cluster_ips(&spec, &mut warnings) };
    let mut service = Service {
        kind,
        cluster_ips,
        headless,
        other_proxy: has_label(&object.metadata, OTHER_PROXY_LABEL),
        ports: ports(&spec, &mut warnings),
        external_ips: address::list("spec.externalIPs", strings(&spec.external_ips), &mut warnings),
        load_balancer_ips: load_balancer_ips(object, &mut warnings),
        source_ranges: source_ranges(&spec, &mut warnings),
        internal_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            &mut warnings,
        ),
        external_policy: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            &mut warnings,
        ),
        health_check_port: health_check_port(&spec, &mut warnings),
        affinity: affinity(&spec, &mut warnings),
        name: own,
    };
    // There may be many, of one port and one address each.
    service.ports.shrink_to_fit();
    service.cluster_ips.shrink_to_fit();
    // A Service that no proxy serves has nothing that could not be honoured.
    let warnings = if is_dns_alone { Vec::new() } else { warnings.into_list() };
    (service, warnings)
}

fn strings(list: &Option<Vec<String>>) -> impl Iterator<Item = &str> {
    list.iter().flatten().map(String::as_str)
}

fn kind(written: Option<&str>, warnings: &mut Warnings) -> ServiceType {
    match written {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            warnings.add(format!(
                "spec.type {other:?} is none and is read as ClusterIP: write ClusterIP, NodePort, \
                 LoadBalancer or ExternalName"
            ));
            ServiceType::ClusterIp
        }
    }
}

fn cluster_ips(spec: &core::ServiceSpec, warnings: &mut Warnings) -> Vec<IpAddr> {
    let several = strings(&spec.cluster_ips);
    let one = spec.cluster_ip.as_deref().filter(|_| spec.cluster_ips.is_none());
    let texts = several.chain(one).filter(|text| !text.is_empty());
    let mut addresses = address::list("spec.clusterIPs", texts, warnings);
    let mut families: Vec<Family> = Vec::new();
    addresses.retain(|address| {
        let is_first = !families.contains(&Family::of(address));
        if is_first {
            families.push(Family::of(address));
        } else {
            warnings.add(format!(
                "spec.clusterIPs {address} is the second of its family and is left out: a Service \
                 has one of each family at most"
            ));
        }
        is_first
    });
    addresses
}

fn ports(spec: &core::ServiceSpec, warnings: &mut Warnings) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for written in spec.ports.iter().flatten() {
        let protocol = port::protocol("spec.ports.protocol", written.protocol.as_deref(), warnings);
        let number = port::number("spec.ports.port", written.port, warnings);
        let (Some(protocol), Some(number)) = (protocol, number) else {
            continue;
        };
        let name = SharedText::from(written.name.as_deref().unwrap_or_default());
        if ports.iter().any(|other| other.name == name) {
            warnings.add(format!(
                "a second port named {name:?} is left out: give each port a name of its own"
            ));
            continue;
        }
        if ports.iter().any(|other| (other.port, other.protocol) == (number, protocol)) {
            warnings.add(format!(
                "a second port {number}/{protocol} is left out: give each port its own number"
            ));
            continue;
        }
        ports.push(ServicePort {
            name,
            protocol,
            port: number,
            node_port: written
                .node_port
                .filter(|number| *number != 0)
                .and_then(|number| port::number("spec.ports.nodePort", number, warnings)),
        });
    }
    ports
}

/// Those of `status.loadBalancer.ingress` whose packets this node gets. With `ipMode: Proxy` they
/// must really go out to the load balancer (KEP-1860); a hostname is no address.
fn load_balancer_ips(object: &core::Service, warnings: &mut Warnings) -> Vec<IpAddr> {
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let texts = ingress
        .iter()
        .filter(|entry| entry.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|entry| entry.ip.as_deref())
        .filter(|text| !text.is_empty());
    address::list("status.loadBalancer.ingress.ip", texts, warnings)
}

/// The ranges that clients of the load balancer's addresses must come from. One that cannot be read
/// lets no client in, even if it is the only one: a mistake must not open what was to be closed.
fn source_ranges(spec: &core::ServiceSpec, warnings: &mut Warnings) -> Option<Vec<IpNet>> {
    let written = spec.load_balancer_source_ranges.as_ref().filter(|list| !list.is_empty())?;
    let mut ranges = Vec::new();
    for text in written {
        match range(text.trim()) {
            Some(range) => ranges.push(range),
            None => warnings.add(format!(
                "spec.loadBalancerSourceRanges {text:?} is no range and lets no client in: write \
                 ADDRESS/LENGTH, as in 192.0.2.0/24 or 2001:db8::/32"
            )),
        }
    }
    Some(ranges)
}

fn policy(field: &str, written: Option<&str>, warnings: &mut Warnings) -> TrafficPolicy {
    match written {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            warnings.add(format!(
                "{field} {other:?} is none and is read as Cluster: write Cluster or Local"
            ));
            TrafficPolicy::Cluster
        }
    }
}

fn health_check_port(spec: &core::ServiceSpec, warnings: &mut Warnings) -> Option<u16> {
    let written = spec.health_check_node_port.filter(|number| *number != 0)?;
    port::number("spec.healthCheckNodePort", written, warnings)
}

fn affinity(spec: &core::ServiceSpec, warnings: &mut Warnings) -> Affinity {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => Affinity::None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref();
            let written = config
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client_ip| client_ip.timeout_seconds);
            Affinity::ClientIp { timeout_seconds: affinity_seconds(written, warnings) }
        }
        Some(other) => {
            warnings.add(format!(
                "spec.sessionAffinity {other:?} is none and is read as None: write None or ClientIP"
            ));
            Affinity::None
        }
    }
}

fn affinity_seconds(written: Option<i32>, warnings: &mut Warnings) -> u32 {
    let Some(written) = written else {
        return DEFAULT_AFFINITY_SECONDS;
    };
    let seconds = u32::try_from(written).ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.unwrap_or_else(|| {
        warnings.add(format!(
            "the affinity's timeoutSeconds {written} is out of range and is read as \
             {DEFAULT_AFFINITY_SECONDS}: write 1 to 86400"
        ));
        DEFAULT_AFFINITY_SECONDS
    })
}

#[cfg(test)]
mod tests;
