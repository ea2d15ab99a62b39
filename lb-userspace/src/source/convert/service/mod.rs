//! Service.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use lb_common::address::Family;

use super::service_cidr::range;
use super::{Remarks, address, has_label, name, port};
use crate::model::{Affinity, Remark, Service, ServicePort, ServiceType, TrafficPolicy};

/// The label by which another proxy claims a Service, whatever its value.
const OTHER_PROXY_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is absent: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The Service that `object` describes, and what of it is not honoured.
pub(crate) fn service(object: &core::Service) -> (Service, Vec<Remark>) {
    let own = name(&object.metadata);
    let mut remarks = Remarks::about("Service", &own);
    let spec = object.spec.clone().unwrap_or_default();
    let kind = kind(spec.type_.as_deref(), &mut remarks);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let cluster_ips = if headless || kind == ServiceType::ExternalName {
        Vec::new()
    } else {
        cluster_ips(&spec, &mut remarks)
    };
    let service = Service {
        kind,
        cluster_ips,
        headless,
        other_proxy: has_label(&object.metadata, OTHER_PROXY_LABEL),
        ports: ports(&spec, &mut remarks),
        external_ips: address::list("spec.externalIPs", strings(&spec.external_ips), &mut remarks),
        load_balancer_ips: load_balancer_ips(object, &mut remarks),
        source_ranges: source_ranges(&spec, &mut remarks),
        internal_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            &mut remarks,
        ),
        external_policy: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            &mut remarks,
        ),
        health_check_port: health_check_port(&spec, &mut remarks),
        affinity: affinity(&spec, &mut remarks),
        selector: spec.selector.unwrap_or_default(),
        name: own,
    };
    (service, remarks.into_list())
}

fn strings(list: &Option<Vec<String>>) -> impl Iterator<Item = &str> {
    list.iter().flatten().map(String::as_str)
}

fn kind(written: Option<&str>, remarks: &mut Remarks) -> ServiceType {
    match written {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            remarks.add(format!(
                "spec.type {other:?} is none and is read as ClusterIP: write ClusterIP, NodePort, \
                 LoadBalancer or ExternalName"
            ));
            ServiceType::ClusterIp
        }
    }
}

fn cluster_ips(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Vec<IpAddr> {
    let several = strings(&spec.cluster_ips);
    let one = spec.cluster_ip.as_deref().filter(|_| spec.cluster_ips.is_none());
    let texts = several.chain(one).filter(|text| !text.is_empty());
    let mut addresses = address::list("spec.clusterIPs", texts, remarks);
    let mut families: Vec<Family> = Vec::new();
    addresses.retain(|address| {
        let is_first = !families.contains(&Family::of(address));
        if is_first {
            families.push(Family::of(address));
        } else {
            remarks.add(format!(
                "spec.clusterIPs {address} is the second of its family and is left out: a Service \
                 has one of each family at most"
            ));
        }
        is_first
    });
    addresses
}

fn ports(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for written in spec.ports.iter().flatten() {
        let protocol = port::protocol("spec.ports.protocol", written.protocol.as_deref(), remarks);
        let number = port::number("spec.ports.port", written.port, remarks);
        let (Some(protocol), Some(number)) = (protocol, number) else {
            continue;
        };
        let name = written.name.clone().unwrap_or_default();
        if ports.iter().any(|other| other.name == name) {
            remarks.add(format!(
                "a second port named {name:?} is left out: give each port a name of its own"
            ));
            continue;
        }
        if ports.iter().any(|other| (other.port, other.protocol) == (number, protocol)) {
            remarks.add(format!(
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
                .and_then(|number| port::number("spec.ports.nodePort", number, remarks)),
        });
    }
    ports
}

/// Those of `status.loadBalancer.ingress` that packets come here for. With `ipMode: Proxy` they
/// must really go out to the load balancer (KEP-1860); a hostname is no address.
fn load_balancer_ips(object: &core::Service, remarks: &mut Remarks) -> Vec<IpAddr> {
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let texts = ingress
        .iter()
        .filter(|entry| entry.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|entry| entry.ip.as_deref())
        .filter(|text| !text.is_empty());
    address::list("status.loadBalancer.ingress.ip", texts, remarks)
}

/// The ranges that clients of the load balancer's addresses must come from. One that cannot be read
/// lets nobody in, even if it is the only one: a mistake must not open what was to be closed.
fn source_ranges(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Option<Vec<IpNet>> {
    let written = spec.load_balancer_source_ranges.as_ref().filter(|list| !list.is_empty())?;
    let mut ranges = Vec::new();
    for text in written {
        match range(text.trim()) {
            Some(range) => ranges.push(range),
            None => remarks.add(format!(
                "spec.loadBalancerSourceRanges {text:?} is no range and lets nobody in: write \
                 ADDRESS/LENGTH, as in 192.0.2.0/24 or 2001:db8::/32"
            )),
        }
    }
    Some(ranges)
}

fn policy(field: &str, written: Option<&str>, remarks: &mut Remarks) -> TrafficPolicy {
    match written {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            remarks.add(format!(
                "{field} {other:?} is none and is read as Cluster: write Cluster or Local"
            ));
            TrafficPolicy::Cluster
        }
    }
}

fn health_check_port(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Option<u16> {
    let written = spec.health_check_node_port.filter(|number| *number != 0)?;
    port::number("spec.healthCheckNodePort", written, remarks)
}

fn affinity(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Affinity {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => Affinity::None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref();
            let written = config
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client_ip| client_ip.timeout_seconds);
            Affinity::ClientIp { timeout_seconds: affinity_seconds(written, remarks) }
        }
        Some(other) => {
            remarks.add(format!(
                "spec.sessionAffinity {other:?} is none and is read as None: write None or ClientIP"
            ));
            Affinity::None
        }
    }
}

fn affinity_seconds(written: Option<i32>, remarks: &mut Remarks) -> u32 {
    let Some(written) = written else {
        return DEFAULT_AFFINITY_SECONDS;
    };
    let seconds = u32::try_from(written).ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.unwrap_or_else(|| {
        remarks.add(format!(
            "the affinity's timeoutSeconds {written} is out of range and is read as \
             {DEFAULT_AFFINITY_SECONDS}: write 1 to 86400"
        ));
        DEFAULT_AFFINITY_SECONDS
    })
}

#[cfg(test)]
mod tests;
