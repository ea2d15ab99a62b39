//! Health checks of load balancers (`spec.healthCheckNodePort`): for which Services, at which addresses,
//! and with how many local endpoints, as in kube-proxy's `ServiceHealthServer`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::address::Family;

use super::settings::{NodePortAddresses, includes, localhost};
use crate::model::{
    EndpointSlice, HealthCheck, HealthChecks, LocalNode, Service, ServiceType, SharedText,
    TrafficPolicy,
};

/// The health checks that this node serves for `services`: at its addresses within the ranges of `which`, as
/// kube-proxy does; in a family without ranges, and with `primary`, at any address, because a load
/// balancer may use any of them.
pub(super) fn health_checks<'a>(
    services: impl Iterator<Item = &'a Service>,
    slices: impl Fn(&'a Service) -> Vec<&'a EndpointSlice>,
    local_node: &LocalNode,
    which: &NodePortAddresses,
) -> HealthChecks {
    let mut checks = HealthChecks::new();
    for (service, port) in services.filter_map(checked) {
        let slices = slices(service);
        for family in Family::ALL {
            if !service.cluster_ips.iter().any(|ip| Family::of(ip) == family) {
                continue;
            }
            let count = local_endpoints(service, &slices, family, local_node).len();
            checks.extend(addresses(family, local_node, which).into_iter().map(|ip| {
                let address = SocketAddr::new(ip, port);
                (HealthCheck { service: service.name.clone(), address }, count)
            }));
        }
    }
    checks
}

/// The Service with its health check port, if a load balancer needs one: only under
/// `externalTrafficPolicy: Local` must it choose nodes with an endpoint.
fn checked(service: &Service) -> Option<(&Service, u16)> {
    let has_check = service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local
        && !service.other_proxy
        && !service.headless;
    service.health_check_port.filter(|_| has_check).map(|port| (service, port))
}

/// The addresses of ready endpoints on this node. One that serves several ports counts once. A
/// terminating one does not count, though it serves while no other does: new traffic should go to
/// nodes whose endpoints stay.
fn local_endpoints(
    service: &Service,
    slices: &[&EndpointSlice],
    family: Family,
    local_node: &LocalNode,
) -> BTreeSet<IpAddr> {
    let slices = slices.iter().filter(|slice| !slice.headless && slice.family == family);
    let endpoints =
        slices.filter(|slice| shares_a_port(service, slice)).flat_map(|slice| &slice.endpoints);
    let is_local = |node: &Option<SharedText>| node.as_deref() == Some(&local_node.name);
    endpoints.filter(|e| e.ready && is_local(&e.node)).map(|endpoint| endpoint.address).collect()
}

fn shares_a_port(service: &Service, slice: &EndpointSlice) -> bool {
    service.ports.iter().any(|port| {
        slice.ports.iter().any(|of| of.name == port.name && of.protocol == port.protocol)
    })
}

fn addresses(family: Family, local_node: &LocalNode, which: &NodePortAddresses) -> Vec<IpAddr> {
    let any = vec![match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }];
    let Some(ranges) = which.ranges(family).filter(|ranges| !ranges.is_empty() && !which.primary)
    else {
        return any;
    };
    if ranges.iter().any(|range| range.prefix_len() == 0) {
        return any;
    }
    let own = local_node.devices.iter().flat_map(|device| &device.addresses).copied();
    let inside = own.filter(|ip| includes(Some(&ranges), *ip));
    let localhost = which.localhost.then(|| localhost(family));
    BTreeSet::from_iter(inside.chain(localhost)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cluster;
    use crate::source::{Manifests, SourceEvent};

    const SERVICE: &str = "
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  ports: [{name: http, port: 80}, {name: https, port: 443}]
";

    const SLICES: &str = "
---
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.1.1], nodeName: node-1}
- {addresses: [10.244.1.2], nodeName: node-1, conditions: {ready: false}}
- {addresses: [10.244.1.3], nodeName: node-1, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.2.1], nodeName: node-2}
- {addresses: [10.244.3.1]}
---
kind: EndpointSlice
metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: https, port: 8443}]
endpoints:
- {addresses: [10.244.1.1], nodeName: node-1}
- {addresses: [10.244.1.4], nodeName: node-1}
---
kind: EndpointSlice
metadata: {name: web-3, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: metrics, port: 9090}]
endpoints: [{addresses: [10.244.1.5], nodeName: node-1}]
---
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ['fd00:244:2::1'], nodeName: node-2}]
";

    /// The checks that follow from these objects, as `service address count`.
    fn checks(yaml: &str, which: &str) -> String {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let (_, events) = Manifests::open(&[file.path().to_owned()]).unwrap().read();
        let mut cluster = Cluster::default();
        for event in events {
            match event {
                SourceEvent::Changes(changes) => {
                    for change in changes {
                        cluster.apply(change);
                    }
                }
                SourceEvent::Warnings(warnings) => assert_eq!(warnings, []),
            }
        }
        let slices = |service: &Service| {
            let slices = cluster.slices.values().map(Box::as_ref);
            slices.filter(|slice| slice.service == service.name).collect()
        };
        let (services, which) =
            (cluster.services.values().map(Box::as_ref), which.parse().unwrap());
        let lines = health_checks(services, slices, &local_node(), &which);
        let line = |(check, count): (HealthCheck, usize)| {
            format!("{} {} {count}", check.service.name, check.address)
        };
        lines.into_iter().map(line).collect::<Vec<_>>().join(", ")
    }

    fn local_node() -> LocalNode {
        let addresses = ["192.0.2.1", "10.0.0.7", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let device = crate::model::NodeDevice {
            index: 1,
            name: "eth0".into(),
            role: Some(crate::model::DeviceRole::Network),
            addresses: addresses.into(),
            default_routes: Default::default(),
            xdp_sends: false,
            has_link_header: true,
            link: [0; 6],
        };
        LocalNode { name: "node-1".into(), devices: vec![device], routes_by_source: false }
    }

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        assert_eq!(checks(yaml, "primary"), expected);
    }

    #[test]
    fn ready_local_addresses_of_any_port_of_the_service_are_counted() {
        check(&format!("{SERVICE}{SLICES}"), "web 0.0.0.0:32000 2, web [::]:32000 0");
    }

    #[test]
    fn a_service_without_endpoints_has_a_health_check() {
        check(SERVICE, "web 0.0.0.0:32000 0, web [::]:32000 0");
    }

    #[test]
    fn a_family_without_a_cluster_ip_has_no_health_check() {
        check(&SERVICE.replace(", 'fd00:96::1'", ""), "web 0.0.0.0:32000 0");
        check(&SERVICE.replace("10.96.0.1, ", ""), "web [::]:32000 0");
    }

    #[test]
    fn there_is_no_health_check_without_external_traffic_policy_local() {
        for (written, instead) in [
            ("type: LoadBalancer", "type: NodePort"),
            ("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"),
            ("healthCheckNodePort: 32000", "healthCheckNodePort: 0"),
            ("healthCheckNodePort: 32000", ""),
            ("clusterIPs: [10.96.0.1, 'fd00:96::1']", "clusterIP: None"),
            ("{name: web}", "{name: web, labels: {service.kubernetes.io/service-proxy-name: ''}}"),
        ] {
            assert!(SERVICE.contains(written));
            check(&SERVICE.replace(written, instead), "");
        }
    }

    #[test]
    fn ranges_of_node_port_addresses_narrow_their_own_family() {
        for (which, expected) in [
            ("10.0.0.0/8", "web 10.0.0.7:32000 0, web [::]:32000 0"),
            ("2001:db8::/32", "web 0.0.0.0:32000 0, web [2001:db8::1]:32000 0"),
            ("192.0.2.0/24,0.0.0.0/0", "web 0.0.0.0:32000 0, web [::]:32000 0"),
            (
                "192.0.2.0/24,0.0.0.0/1,2001:db8::/32",
                "web 10.0.0.7:32000 0, web 192.0.2.1:32000 0, web [2001:db8::1]:32000 0",
            ),
            ("172.16.0.0/12,fd00::/8", ""),
        ] {
            assert_eq!(checks(SERVICE, which), expected, "{which}");
        }
    }
}
