//! Each field of a Service, as `spec` and `status` have it.

use lb_common::address::Protocol;

use super::*;

fn convert(yaml: &str) -> (Service, Vec<String>) {
    let (service, warnings) = service(&serde_saphyr::from_str(yaml).unwrap());
    (service, warnings.into_iter().map(|warning| warning.text).collect())
}

fn of_spec(spec: &str) -> (Service, Vec<String>) {
    convert(&format!("metadata: {{name: web}}\nspec:\n  clusterIP: 10.96.0.1\n{spec}"))
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn what_is_absent_is_filled_in_as_the_api_server_does() {
    let (service, warnings) = of_spec("  ports: [{port: 80}]\n");
    assert_eq!(warnings, [""; 0]);
    assert_eq!(service.name.to_string(), "default/web");
    assert_eq!(service.kind, ServiceType::ClusterIp);
    assert_eq!(service.cluster_ips, addresses(&["10.96.0.1"]));
    let port = ServicePort { name: "".into(), protocol: Protocol::TCP, port: 80, node_port: None };
    assert_eq!(service.ports, [port]);
    assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(service.external_policy, TrafficPolicy::Cluster);
    assert_eq!(service.affinity, Affinity::None);
    assert!(!service.headless && !service.other_proxy);
}

#[test]
fn every_field_is_taken() {
    let (service, warnings) = convert(
        "metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  externalIPs: [198.51.100.7]
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [192.0.2.0/24]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP}
status: {loadBalancer: {ingress: [{ip: 203.0.113.1, ipMode: VIP}, {ip: 203.0.113.2}]}}
",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(service.name.to_string(), "shop/web");
    assert_eq!(service.kind, ServiceType::LoadBalancer);
    assert_eq!(service.cluster_ips, addresses(&["10.96.0.1", "fd00:96::1"]));
    assert_eq!(service.external_ips, addresses(&["198.51.100.7"]));
    assert_eq!(service.load_balancer_ips, addresses(&["203.0.113.1", "203.0.113.2"]));
    assert_eq!(service.internal_policy, TrafficPolicy::Local);
    assert_eq!(service.external_policy, TrafficPolicy::Local);
    assert_eq!(service.source_ranges, Some(vec!["192.0.2.0/24".parse().unwrap()]));
    assert_eq!(service.affinity, Affinity::ClientIp { timeout_seconds: 60 });
    assert_eq!(service.ports[0].node_port, Some(30080));
    assert_eq!(service.ports[1].protocol, Protocol::UDP);
}

#[test]
fn of_services_that_are_dns_alone_nothing_is_a_warning() {
    let odd = "ports: [{port: 80}, {port: 80}], loadBalancerSourceRanges: [anywhere]";
    for dns in ["clusterIP: None", "type: ExternalName, externalName: a.b"] {
        let (_, warnings) = convert(&format!("metadata: {{name: web}}\nspec: {{{dns}, {odd}}}\n"));
        assert_eq!(warnings, [""; 0], "{dns}");
    }
    let (_, warnings) = convert(&format!("metadata: {{name: web}}\nspec: {{{odd}}}\n"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn headless_and_external_name_services_have_no_cluster_ip_and_need_none() {
    let (headless, warnings) = convert("metadata: {name: web}\nspec: {clusterIP: None}\n");
    assert!(headless.headless && headless.cluster_ips.is_empty());
    assert_eq!(warnings, [""; 0]);
    let (external, warnings) = convert(
        "metadata: {name: web}\nspec: {type: ExternalName, clusterIP: 10.96.0.1, externalName: a.b}\n",
    );
    assert_eq!(external.kind, ServiceType::ExternalName);
    assert!(external.cluster_ips.is_empty());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_service_without_a_cluster_ip_has_none_and_the_plan_says_so() {
    let (service, warnings) = convert("metadata: {name: web}\nspec: {ports: [{port: 80}]}\n");
    assert!(service.cluster_ips.is_empty());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn the_label_of_another_proxy_counts_whatever_its_value() {
    let (service, _) =
        convert("metadata: {name: web, labels: {service.kubernetes.io/service-proxy-name: ''}}\n");
    assert!(service.other_proxy);
}

#[test]
fn addresses_are_normalised_and_those_that_are_none_left_out() {
    let (service, warnings) = convert(
        "metadata: {name: web}
spec:
  clusterIPs: [010.96.000.001, 10.96.0.2]
  externalIPs: [198.51.100.007, 198.51.100.7, 300.1.1.1]
status: {loadBalancer: {ingress: [{ip: 203.0.113.010}, {ip: x}]}}
",
    );
    assert_eq!(service.cluster_ips, addresses(&["10.96.0.1"]));
    assert_eq!(service.external_ips, addresses(&["198.51.100.7"]));
    assert_eq!(service.load_balancer_ips, addresses(&["203.0.113.10"]));
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].contains("second of its family"));
}

#[test]
fn a_load_balancer_that_proxies_or_has_but_a_hostname_is_not_taken() {
    let (service, warnings) = convert(
        "metadata: {name: web}
spec: {clusterIP: 10.96.0.1}
status: {loadBalancer: {ingress: [{ip: 203.0.113.1, ipMode: Proxy}, {hostname: lb.example}]}}
",
    );
    assert!(service.load_balancer_ips.is_empty());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn ports_the_api_server_would_refuse_are_left_out() {
    let (service, warnings) = of_spec(
        "  ports:
  - {name: a, port: 80}
  - {name: b, port: 0}
  - {name: c, port: 70000}
  - {name: d, port: 9, protocol: SCTP}
  - {name: e, port: 9, protocol: icmp}
  - {name: a, port: 81}
  - {name: f, port: 80}
  - {name: g, port: 80, protocol: UDP, nodePort: -3}
",
    );
    let names: Vec<&str> = service.ports.iter().map(|port| &*port.name).collect();
    assert_eq!(names, ["a", "d", "g"]);
    assert_eq!(service.ports[2].node_port, None);
    assert_eq!(warnings.len(), 6);
}

#[test]
fn source_ranges_are_read_with_blanks_around_them_and_host_bits_in_them() {
    let (service, warnings) =
        of_spec("  loadBalancerSourceRanges: [' 192.0.2.77/24 ', '2001:db8::1/32']\n");
    let ranges = ["192.0.2.0/24", "2001:db8::/32"].map(|range| range.parse().unwrap());
    assert_eq!(service.source_ranges.as_deref(), Some(ranges.as_slice()));
    assert_eq!(warnings, [""; 0]);
    let (service, _) = of_spec("  loadBalancerSourceRanges: []\n");
    assert_eq!(service.source_ranges, None);
}

#[test]
fn a_source_range_that_is_none_leaves_the_service_closed() {
    let (service, warnings) = of_spec("  loadBalancerSourceRanges: [192.0.2.1]\n");
    assert_eq!(service.source_ranges, Some(Vec::new()));
    assert!(warnings[0].contains("lets no client in"), "{warnings:?}");
}

#[test]
fn words_that_are_none_are_read_as_the_default() {
    let (service, warnings) = of_spec(
        "  type: Loadbalancer\n  internalTrafficPolicy: local\n  externalTrafficPolicy: Node\n  sessionAffinity: Client\n",
    );
    assert_eq!(service.kind, ServiceType::ClusterIp);
    assert_eq!(service.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(service.external_policy, TrafficPolicy::Cluster);
    assert_eq!(service.affinity, Affinity::None);
    assert_eq!(warnings.len(), 4);
}

#[test]
fn affinity_lasts_three_hours_unless_it_says_how_long() {
    let (service, warnings) = of_spec("  sessionAffinity: ClientIP\n");
    assert_eq!(service.affinity, Affinity::ClientIp { timeout_seconds: 10_800 });
    assert_eq!(warnings, [""; 0]);
    for wrong in [0, -1, 86_401] {
        let (service, warnings) = of_spec(&format!(
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {wrong}}}}}\n"
        ));
        assert_eq!(service.affinity, Affinity::ClientIp { timeout_seconds: 10_800 });
        assert!(warnings[0].contains("1 to 86400"));
    }
}

#[test]
fn a_port_for_health_checks_is_a_port_or_none() {
    for (written, port, warnings) in
        [("32000", Some(32_000), 0), ("0", None, 0), ("65536", None, 1), ("-1", None, 1)]
    {
        let (service, found) = of_spec(&format!("  healthCheckNodePort: {written}\n"));
        assert_eq!((service.health_check_port, found.len()), (port, warnings), "{written}");
    }
}
