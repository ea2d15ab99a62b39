//! Traces of packets.

use lb_common::address::Protocol;

use super::*;
use crate::cli::output::json;
use crate::model::{Name, TrafficPolicy};

#[test]
fn a_new_flow_of_a_pod_goes_from_the_frontend_to_a_backend() {
    let asked = question("10.244.1.9", "10.96.0.1:80/tcp", SourceClass::Pod);
    insta::assert_snapshot!(trace(&world(), &asked).to_string());
}

#[test]
fn an_established_flow_takes_one_lookup() {
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::Forwarded);
    send(&world, (&from, to), SourceClass::Network, true);
    let reply = ("10.244.1.1:8080", format!("{from}/tcp"));
    let replied = send(&world, (reply.0, &reply.1), SourceClass::Host, false);
    assert_eq!(replied, Outcome::Replied);
    send(&world, (&from, to), SourceClass::Network, false);
    assert_eq!(world.v4.entries(Table::Established).len(), 2);
    insta::assert_snapshot!(trace(&world, &question(&from, to, SourceClass::Network)).to_string());
}

#[test]
fn a_packet_to_an_unallocated_address_is_dropped() {
    let asked = question("10.244.1.9:40000", "10.96.0.9:80/tcp", SourceClass::Pod);
    insta::assert_snapshot!(trace(&world(), &asked).to_string());
}

#[test]
fn a_service_without_endpoints_is_the_reason() {
    let asked = question("10.244.1.9:40000", "10.96.0.2:81/tcp", SourceClass::Pod);
    insta::assert_snapshot!(trace(&world(), &asked).to_string());
}

#[test]
fn a_pod_that_reaches_itself_is_a_hairpin() {
    let to = "10.96.0.1:80/tcp";
    let from = sender("10.244.1.1", to, SourceClass::Pod, Outcome::ForwardedHairpin);
    insta::assert_snapshot!(trace(&world(), &question(&from, to, SourceClass::Pod)).to_string());
}

#[test]
fn a_remote_backend_needs_snat() {
    let to = "192.0.2.1:30080/tcp";
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::ForwardedSnat);
    insta::assert_snapshot!(
        trace(&world(), &question(&from, to, SourceClass::Network)).to_string()
    );
}

#[test]
fn a_flow_to_a_backend_itself_is_no_services() {
    let (world, to, pod) = (world(), "10.96.0.1:80/tcp", "10.244.1.1:8080/tcp");
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::Forwarded);
    let check = |from: &str, outcome: &str, decided_by: &str| {
        let trace = trace(&world, &question(from, pod, SourceClass::Network)).to_string();
        let decided_by = format!("decided by: {decided_by}\n");
        assert!(trace.contains(outcome) && trace.contains(&decided_by), "{trace}");
    };
    check("192.0.2.9:50000", "=> passed-direct", "no Service");
    assert_eq!(send(&world, (&from, to), SourceClass::Network, true), Outcome::Forwarded);
    let has_port = "no Service, but a flow through one has the source port";
    check(&from, "=> forwarded-direct", has_port);
    check(&from, "=> forwarded-direct", "its conntrack entry (no Service: direct, new)");
}

#[test]
fn what_decided_is_named() {
    let mut cluster = sample::cluster();
    let web = cluster.services.get_mut(&Name::new("default", "web")).unwrap();
    web.internal_policy = TrafficPolicy::Local;
    web.external_policy = TrafficPolicy::Local;
    web.load_balancer_ips = vec!["198.51.100.1".parse().unwrap()];
    web.source_ranges = Some(vec!["192.0.2.0/24".parse().unwrap()]);
    let slice = cluster.slices.get_mut(&Name::new("default", "web")).unwrap();
    slice.endpoints.retain(|endpoint| endpoint.node.as_deref() != Some("here"));
    let contents = sample::planned(&cluster);
    let world = World::new(contents.clone());
    let decided = |from: &str, to: &str, class| {
        let trace =
            Trace::of(&world, &SampleNode, &contents, &question(from, to, class)).to_string();
        trace.split("decided by: ").nth(1).and_then(|rest| rest.lines().next()).map(str::to_owned)
    };
    let check = |from, to, class, rule: &str| {
        assert_eq!(decided(from, to, class).as_deref(), Some(rule), "{from} > {to}");
    };
    let local = |policy| format!("{policy} Local, no local endpoint; 1 remote");
    check(
        "192.0.2.9",
        "192.0.2.1:30080/tcp",
        SourceClass::Network,
        &local("externalTrafficPolicy"),
    );
    check("10.244.1.9", "10.96.0.1:80/tcp", SourceClass::Pod, &local("internalTrafficPolicy"));
    check("10.244.1.9", "192.0.2.1:30080/tcp", SourceClass::Pod, "policy Cluster, 1 endpoint");
    let ranges = "loadBalancerSourceRanges 192.0.2.0/24, none of which contains 203.0.113.9";
    check("203.0.113.9", "198.51.100.1:80/tcp", SourceClass::Network, ranges);
    let no_endpoint = "no endpoint is ready, and none serves while it terminates";
    check("10.244.1.9", "10.96.0.2:81/tcp", SourceClass::Pod, no_endpoint);
    check("10.244.1.9", "203.0.113.9:80/tcp", SourceClass::Pod, "no Service");
}

#[test]
fn a_stale_entry_decides_nothing() {
    let mut cluster = sample::cluster();
    let web = Name::new("default", "web");
    let ports = &mut cluster.services.get_mut(&web).unwrap().ports;
    ports.iter_mut().for_each(|port| port.protocol = Protocol::UDP);
    let ports = &mut cluster.slices.get_mut(&web).unwrap().ports;
    ports.iter_mut().for_each(|port| port.protocol = Protocol::UDP);
    let contents = sample::planned(&cluster);
    let mut world = World::new(contents.clone());
    let (from, to) = ("10.244.1.9:40000", "10.96.0.1:80/udp");
    assert_eq!(send(&world, (from, to), SourceClass::Pod, true), Outcome::Forwarded);
    let decided = |world: &World<Contents>, decided_by: &str| {
        let asked = question(from, to, SourceClass::Pod);
        let trace = Trace::of(world, &SampleNode, &contents, &asked).to_string();
        assert!(trace.contains(&format!("decided by: {decided_by}\n")), "{trace}");
    };
    decided(&world, "its conntrack entry (default/web:http, new)");
    // UDP goes on to another backend when its own is removed.
    world.tables.v4.backends.values_mut().for_each(|row| row.generation += 1);
    decided(&world, "policy Cluster, 2 endpoints");
}

#[test]
fn the_fields_of_a_trace_are_these() {
    let asked = question("10.244.1.9:40000", "10.96.0.2:81/udp", SourceClass::Pod);
    insta::assert_snapshot!(json(&trace(&world(), &asked)).unwrap());
}

#[test]
fn a_source_port_is_chosen_that_no_flow_uses() {
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    send(&world, ("10.244.1.9:40000", to), SourceClass::Pod, true);
    let trace = trace(&world, &question("10.244.1.9", to, SourceClass::Pod)).to_string();
    assert!(trace.contains("source port 40001"), "{trace}");
}

#[test]
fn a_packet_without_route_is_dropped_by_the_kernel() {
    let asked = question("10.244.1.9:40000", "203.0.113.1:80/tcp", SourceClass::Pod);
    assert!(trace(&world(), &asked).to_string().contains("no route to 203.0.113.1"));
}
