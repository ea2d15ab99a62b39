//! Which Services a load balancer asks this node about, where, and how many endpoints here would
//! serve what it then sends: `spec.healthCheckNodePort`, as kube-proxy's `ServiceHealthServer` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use lb_common::address::Family;

use super::NodePortAddresses;
use crate::model::{
    Cluster, EndpointSlice, HealthCheck, HealthChecks, LocalNode, Name, Service, ServiceType,
    TrafficPolicy,
};

/// The health checks of `cluster` that this node is to answer: at its addresses within the ranges
/// of `which`, as kube-proxy; in a family without ranges, `primary` included, at any address, for a
/// load balancer may know the node by each.
#[must_use]
pub fn health_checks(
    cluster: &Cluster,
    here: &LocalNode,
    which: &NodePortAddresses,
) -> HealthChecks {
    let services: Vec<(&Service, u16)> = cluster.services.values().filter_map(checked).collect();
    let local = local_endpoints(cluster, here, &services);
    let mut checks = HealthChecks::new();
    for family in Family::ALL {
        let addresses = addresses(family, here, which);
        for (service, port) in &services {
            if !service.cluster_ips.iter().any(|ip| Family::of(ip) == family) {
                continue;
            }
            let count = local.get(&(&service.name, family)).map_or(0, BTreeSet::len);
            checks.extend(addresses.iter().map(|ip| {
                let address = SocketAddr::new(*ip, *port);
                (HealthCheck { service: service.name.clone(), address }, count)
            }));
        }
    }
    checks
}

/// The port at which a load balancer asks about this Service, if one does: only where traffic from
/// outside must come to a node with an endpoint does it matter to which it is sent.
fn checked(service: &Service) -> Option<(&Service, u16)> {
    let is_asked_for = service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local
        && !service.other_proxy
        && !service.headless;
    service.health_check_port.filter(|_| is_asked_for).map(|port| (service, port))
}

/// The addresses of ready endpoints on this node. One that serves several ports counts once, and one
/// on its way out not at all, though it still serves while no other does: new traffic is to go where
/// endpoints stay.
fn local_endpoints<'a>(
    cluster: &'a Cluster,
    here: &LocalNode,
    services: &[(&'a Service, u16)],
) -> BTreeMap<(&'a Name, Family), BTreeSet<IpAddr>> {
    let services: BTreeMap<&Name, &Service> =
        services.iter().map(|(service, _)| (&service.name, *service)).collect();
    let mut local: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
    for slice in cluster.slices.values().filter(|slice| !slice.headless) {
        let Some(service) = services.get(&slice.service).filter(|of| shares_a_port(of, slice))
        else {
            continue;
        };
        let is_local = |node: &Option<String>| node.as_ref() == Some(&here.name);
        let ready = slice.endpoints.iter().filter(|e| e.ready && is_local(&e.node));
        let addresses = ready.map(|endpoint| endpoint.address);
        local.entry((&service.name, slice.family)).or_default().extend(addresses);
    }
    local
}

fn shares_a_port(service: &Service, slice: &EndpointSlice) -> bool {
    service.ports.iter().any(|port| {
        slice.ports.iter().any(|of| of.name == port.name && of.protocol == port.protocol)
    })
}

fn addresses(family: Family, here: &LocalNode, which: &NodePortAddresses) -> Vec<IpAddr> {
    let ranges: Vec<&IpNet> = match which {
        NodePortAddresses::Primary => Vec::new(),
        NodePortAddresses::Within(ranges) => {
            ranges.iter().filter(|range| Family::of(&range.addr()) == family).collect()
        }
    };
    if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
        return vec![match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }];
    }
    let own = here.devices.iter().flat_map(|device| &device.addresses);
    let inside = own.filter(|ip| ranges.iter().any(|range| range.contains(*ip)));
    BTreeSet::from_iter(inside.copied()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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
- {addresses: [10.244.1.1], nodeName: here}
- {addresses: [10.244.1.2], nodeName: here, conditions: {ready: false}}
- {addresses: [10.244.1.3], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.244.2.1], nodeName: elsewhere}
- {addresses: [10.244.3.1]}
---
kind: EndpointSlice
metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: https, port: 8443}]
endpoints:
- {addresses: [10.244.1.1], nodeName: here}
- {addresses: [10.244.1.4], nodeName: here}
---
kind: EndpointSlice
metadata: {name: web-3, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: metrics, port: 9090}]
endpoints: [{addresses: [10.244.1.5], nodeName: here}]
---
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ['fd00:244:2::1'], nodeName: elsewhere}]
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
        let lines = health_checks(&cluster, &here(), &which.parse().unwrap());
        let line = |(check, count): (HealthCheck, usize)| {
            format!("{} {} {count}", check.service.name, check.address)
        };
        lines.into_iter().map(line).collect::<Vec<_>>().join(", ")
    }

    fn here() -> LocalNode {
        let addresses = ["192.0.2.1", "10.0.0.7", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let device = crate::model::NodeDevice {
            index: 1,
            name: "eth0".into(),
            role: crate::model::DeviceRole::Network,
            addresses: addresses.into(),
            mtu: 0,
            xdp_sends: false,
        };
        LocalNode { name: "here".into(), devices: vec![device] }
    }

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        assert_eq!(checks(yaml, "primary"), expected);
    }

    #[test]
    fn what_is_counted_are_addresses_that_are_ready_here_behind_any_port_of_the_service() {
        check(&format!("{SERVICE}{SLICES}"), "web 0.0.0.0:32000 2, web [::]:32000 0");
    }

    #[test]
    fn a_service_without_endpoints_is_asked_about_all_the_same() {
        check(SERVICE, "web 0.0.0.0:32000 0, web [::]:32000 0");
    }

    #[test]
    fn a_family_in_which_the_service_has_no_cluster_ip_is_not_asked() {
        check(&SERVICE.replace(", 'fd00:96::1'", ""), "web 0.0.0.0:32000 0");
        check(&SERVICE.replace("10.96.0.1, ", ""), "web [::]:32000 0");
    }

    #[test]
    fn nobody_asks_where_it_does_not_matter_which_node_traffic_is_sent_to() {
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
