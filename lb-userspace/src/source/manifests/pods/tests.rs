//! A Service with a selector and the pods it finds, to the endpoints it gets.

use super::*;

fn service(ports: &str) -> core::Service {
    serde_saphyr::from_str(&format!(
        "metadata: {{name: web}}\nspec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: {ports}}}\n"
    ))
    .unwrap()
}

fn pod(rest: &str) -> core::Pod {
    serde_saphyr::from_str(&format!(
        "metadata: {{name: web-1, labels: {{app: web, tier: a}}}}\n{rest}\n"
    ))
    .unwrap()
}

/// The slices as lines: family, ports, then each endpoint with its conditions and node.
fn lines(object: &core::Service, pods: &[core::Pod]) -> (Vec<String>, Vec<String>) {
    let (service, _) = convert::service(object);
    let (slices, warnings) = slices(&service, object, pods);
    let lines = slices.iter().map(|slice| {
        let ports: Vec<String> = slice
            .ports
            .iter()
            .map(|port| format!("{}={}/{}", port.name, port.port, port.protocol))
            .collect();
        let endpoints: Vec<String> = slice.endpoints.iter().map(line).collect();
        format!("{} {}: {}", slice.family, ports.join(","), endpoints.join(", "))
    });
    (lines.collect(), warnings.into_iter().map(|warning| warning.text).collect())
}

fn line(endpoint: &Endpoint) -> String {
    let mut line = endpoint.address.to_string();
    for (is_so, word) in [
        (endpoint.ready, " ready"),
        (endpoint.serving, " serving"),
        (endpoint.terminating, " terminating"),
    ] {
        line += if is_so { word } else { "" };
    }
    line + &endpoint.node.as_ref().map_or(String::new(), |node| format!(" on {node}"))
}

#[track_caller]
fn check(object: &core::Service, pods: &[core::Pod], expected: &[&str]) {
    let (lines, warnings) = lines(object, pods);
    assert_eq!(lines, expected);
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_running_pod_becomes_an_endpoint_at_the_target_port() {
    let pod = pod(
        "spec: {nodeName: node-1, containers: []}\nstatus: {phase: Running, podIP: 10.244.1.1}",
    );
    check(
        &service("[{port: 80, targetPort: 8080}]"),
        &[pod],
        &["IPv4 =8080/tcp: 10.244.1.1 ready serving on node-1"],
    );
}

#[test]
fn without_a_target_port_the_service_s_own_number_is_the_target() {
    check(
        &service("[{port: 80}]"),
        &[pod("status: {podIP: 10.244.1.1}")],
        &["IPv4 =80/tcp: 10.244.1.1 ready serving"],
    );
}

#[test]
fn a_named_target_port_is_resolved_in_each_pod_by_name_and_protocol() {
    let with = |port: &str, address: &str| {
        pod(&format!(
            "spec: {{containers: [{{name: a, ports: [{{name: web, containerPort: 53, protocol: UDP}}]}}, {{name: b, ports: [{{name: web, containerPort: {port}}}]}}]}}\nstatus: {{podIP: {address}}}"
        ))
    };
    check(
        &service(
            "[{name: http, port: 80, targetPort: web}, {name: dns, port: 53, protocol: UDP, targetPort: web}]",
        ),
        &[with("8080", "10.244.1.1"), with("8081", "10.244.1.2"), with("8080", "10.244.1.3")],
        &[
            "IPv4 http=8080/tcp,dns=53/udp: 10.244.1.1 ready serving, 10.244.1.3 ready serving",
            "IPv4 http=8081/tcp,dns=53/udp: 10.244.1.2 ready serving",
        ],
    );
}

#[test]
fn a_sidecar_s_port_is_found_and_an_ordinary_init_container_s_is_not() {
    let object = service("[{port: 80, targetPort: web}]");
    let init = |policy: &str| {
        pod(&format!(
            "spec: {{containers: [], initContainers: [{{name: a, {policy} ports: [{{name: web, containerPort: 8080}}]}}]}}\nstatus: {{podIP: 10.244.1.1}}"
        ))
    };
    check(
        &object,
        &[init("restartPolicy: Always,")],
        &["IPv4 =8080/tcp: 10.244.1.1 ready serving"],
    );
    let (slices, warnings) = lines(&object, &[init("")]);
    assert_eq!(slices, [""; 0]);
    assert!(warnings[0].contains("\"web\", which 1 of its pods (first: web-1) do not have"));
}

#[test]
fn a_port_that_a_pod_has_not_leaves_its_other_ports_alone() {
    let (slices, warnings) = lines(
        &service(
            "[{name: a, port: 80}, {name: b, port: 81, targetPort: none}, {name: c, port: 82, targetPort: 70000}]",
        ),
        &[pod("status: {podIP: 10.244.1.1}")],
    );
    assert_eq!(slices, ["IPv4 a=80/tcp: 10.244.1.1 ready serving"]);
    assert_eq!(warnings.len(), 2);
}

#[test]
fn conditions_phase_and_deletion_decide_what_an_endpoint_is_good_for() {
    let object = service("[{port: 80}]");
    for (rest, expected) in [
        ("status: {podIP: 10.0.0.1}", "10.0.0.1 ready serving"),
        ("status: {podIP: 10.0.0.1, phase: Pending}", "10.0.0.1"),
        ("status: {podIP: 10.0.0.1, phase: Running, conditions: []}", "10.0.0.1 ready serving"),
        (
            "status: {podIP: 10.0.0.1, phase: Running, conditions: [{type: Ready, status: 'False'}]}",
            "10.0.0.1",
        ),
        (
            "status: {podIP: 10.0.0.1, phase: Running, conditions: [{type: Initialized, status: 'True'}]}",
            "10.0.0.1",
        ),
        (
            "status: {podIP: 10.0.0.1, phase: Pending, conditions: [{type: Ready, status: 'True'}]}",
            "10.0.0.1 ready serving",
        ),
    ] {
        check(&object, &[pod(rest)], &[&format!("IPv4 =80/tcp: {expected}")]);
    }
    let deleted: core::Pod = serde_saphyr::from_str(
        "metadata: {name: a, labels: {app: web}, deletionTimestamp: '2026-01-01T00:00:00Z'}\nstatus: {podIP: 10.0.0.1, phase: Running}\n",
    )
    .unwrap();
    check(&object, &[deleted], &["IPv4 =80/tcp: 10.0.0.1 serving terminating"]);
}

#[test]
fn pods_that_have_ended_or_have_no_address_are_no_endpoints() {
    let object = service("[{port: 80}]");
    for rest in [
        "status: {podIP: 10.0.0.1, phase: Succeeded}",
        "status: {podIP: 10.0.0.1, phase: Failed}",
        "status: {phase: Pending}",
        "status: {podIP: ''}",
        "",
    ] {
        check(&object, &[pod(rest)], &[]);
    }
}

#[test]
fn not_ready_addresses_are_published_where_asked_for() {
    let mut object = service("[{port: 80}]");
    object.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    check(
        &object,
        &[pod("status: {podIP: 10.0.0.1, phase: Pending}")],
        &["IPv4 =80/tcp: 10.0.0.1 ready"],
    );
}

#[test]
fn a_pod_with_two_addresses_is_an_endpoint_in_each_family_of_the_service() {
    let pod = pod("status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}");
    check(
        &service("[{port: 80}]"),
        std::slice::from_ref(&pod),
        &["IPv4 =80/tcp: 10.0.0.1 ready serving"],
    );
    let mut dual = service("[{port: 80}]");
    dual.spec.as_mut().unwrap().cluster_ips = Some(vec!["10.96.0.1".into(), "fd00:96::1".into()]);
    check(
        &dual,
        &[pod],
        &["IPv4 =80/tcp: 10.0.0.1 ready serving", "IPv6 =80/tcp: fd00::1 ready serving"],
    );
}

#[test]
fn every_label_of_the_selector_must_match() {
    let mut object = service("[{port: 80}]");
    let selector = object.spec.as_mut().unwrap().selector.as_mut().unwrap();
    selector.insert("tier".into(), "b".into());
    check(&object, &[pod("status: {podIP: 10.0.0.1}")], &[]);
}

#[test]
fn services_that_are_not_balanced_or_select_nothing_get_no_endpoints() {
    for spec in [
        "{clusterIP: None, selector: {app: web}, ports: [{port: 80}]}",
        "{type: ExternalName, selector: {app: web}, ports: [{port: 80}]}",
        "{clusterIP: 10.96.0.1, ports: [{port: 80}]}",
        "{clusterIP: 10.96.0.1, selector: {}, ports: [{port: 80}]}",
    ] {
        let object: core::Service =
            serde_saphyr::from_str(&format!("metadata: {{name: web}}\nspec: {spec}\n")).unwrap();
        check(&object, &[pod("status: {podIP: 10.0.0.1}")], &[]);
    }
}
