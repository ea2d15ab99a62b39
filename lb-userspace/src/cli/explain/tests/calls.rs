//! Traces of the calls of processes.

use super::*;
use crate::model::{Affinity, Cluster, Name, TrafficPolicy};

/// Traces a process of this node, or of a pod, where sockets of both are balanced.
fn call(cluster: &Cluster, (from, to): (&str, &str), class: SourceClass) -> String {
    let contents = sample::planned_for_sockets(cluster);
    let world = World::new(contents.clone());
    world.is_own_packet.set(class == SourceClass::Host);
    Trace::of(&world, &SampleNode, &contents, &question(from, to, class)).to_string()
}

#[test]
fn a_process_of_this_node_is_traced_from_its_call_to_its_egress() {
    let ends = ("192.0.2.1", "10.96.0.1:80/tcp");
    insta::assert_snapshot!(call(&sample::cluster(), ends, SourceClass::Host));
}

/// A Service that no process of this node may reach: its one endpoint is elsewhere, and its ranges are others'.
fn closed() -> Cluster {
    let mut cluster = sample::cluster();
    let web = cluster.services.get_mut(&Name::new("default", "web")).unwrap();
    web.internal_policy = TrafficPolicy::Local;
    web.load_balancer_ips = ["198.51.100.1", "192.0.2.1"].map(|ip| ip.parse().unwrap()).into();
    web.source_ranges = Some(vec!["203.0.113.0/24".parse().unwrap()]);
    let slice = cluster.slices.get_mut(&Name::new("default", "web")).unwrap();
    slice.endpoints.retain(|endpoint| endpoint.node.as_deref() != Some("here"));
    cluster
}

#[test]
fn a_call_that_fails_has_its_error_and_the_rule() {
    const REFUSED: &str = "fails with ECONNREFUSED (UDP: EPERM";
    for (to, words) in [
        ("10.96.0.2:81/tcp", ["rejected-no-endpoint", "no endpoint is ready", REFUSED]),
        ("10.96.0.1:81/tcp", ["rejected-no-such-port", "has the ports 80/tcp", REFUSED]),
        (
            // The node's own address stands for a process, whatever it sends from.
            "192.0.2.1:80/tcp",
            ["dropped-source-range", "none of which contains 192.0.2.1", "fails with EPERM"],
        ),
    ] {
        let trace = call(&closed(), ("127.0.0.1", to), SourceClass::Host);
        for text in words {
            assert!(trace.contains(text), "{trace}");
        }
        assert!(!trace.contains("egress"), "{trace}");
    }
}

#[test]
fn a_call_whose_packets_are_dropped_succeeds() {
    for (to, words) in [
        ("10.96.0.1:80/tcp", ["dropped-no-local-endpoint", "internalTrafficPolicy Local"]),
        ("198.51.100.1:80/tcp", ["dropped-source-range", "none of which contains 192.0.2.1"]),
        ("10.96.0.9:80/tcp", ["dropped-unallocated-address", "service CIDR 10.96.0.0/16"]),
    ] {
        let trace = call(&closed(), ("192.0.2.1", to), SourceClass::Host);
        let (socket, packet) = trace.split_once("egress, eth0").unwrap();
        assert!(socket.contains("=> passed-left-to-tc"), "{trace}");
        for text in words {
            assert!(trace.contains(text), "{trace}");
        }
        assert!(packet.contains(&format!("=> {}", words[0])), "{trace}");
    }
}

#[test]
fn a_call_to_no_service_passes_both_hooks() {
    let ends = ("192.0.2.1:40000", "203.0.113.9:80/tcp");
    let trace = call(&sample::cluster(), ends, SourceClass::Host);
    let (socket, packet) = trace.split_once("egress, eth0").unwrap();
    assert!(socket.contains("connect, cgroup /sys/fs/cgroup"), "{trace}");
    assert!(socket.contains("passed-not-a-service") && packet.contains("passed-not-a-service"));
}

#[test]
fn a_pod_s_call_is_traced_where_its_sockets_are_balanced() {
    let ends = ("10.244.1.9:40000", "10.96.0.1:80/tcp");
    let trace = call(&sample::cluster(), ends, SourceClass::Pod);
    let (socket, packet) = trace.split_once("ingress, pod device").unwrap();
    assert!(socket.contains("socket-connected"), "{trace}");
    assert!(packet.contains("passed-not-a-service"), "{trace}");
    // What goes by the client's address has to wait for a packet.
    let mut cluster = sample::cluster();
    let web = cluster.services.get_mut(&Name::new("default", "web")).unwrap();
    web.affinity = Affinity::ClientIp { timeout_seconds: 60 };
    let trace = call(&cluster, ends, SourceClass::Pod);
    let (socket, packet) = trace.split_once("ingress, pod device").unwrap();
    assert!(socket.contains("passed-left-to-tc"), "{trace}");
    assert!(packet.contains("=> forwarded:"), "{trace}");
}

#[test]
fn packets_of_processes_whose_sockets_are_not_balanced_leave_unchanged() {
    let asked = question("192.0.2.1:40000", "10.96.0.1:80/tcp", SourceClass::Host);
    let trace = trace(&world(), &asked).to_string();
    assert!(trace.contains("--socket-balancing off"), "{trace}");
    assert!(!trace.contains("connect, cgroup"), "{trace}");
    assert!(trace.contains("egress, eth0"), "{trace}");
    let ends = ("192.0.2.1:40000", "10.96.0.1:80/sctp");
    let trace = call(&sample::cluster(), ends, SourceClass::Host);
    assert!(trace.contains("SCTP sockets are not balanced"), "{trace}");
    assert!(!trace.contains("connect, cgroup"), "{trace}");
}

#[test]
fn replies_of_a_process_need_no_call() {
    let contents = sample::planned_for_sockets(&sample::cluster());
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::Forwarded);
    send(&world, (&from, to), SourceClass::Network, true);
    let reply = question("10.244.1.1:8080", &format!("{from}/tcp"), SourceClass::Host);
    let trace = Trace::of(&world, &SampleNode, &contents, &reply).to_string();
    assert!(trace.contains("=> replied") && !trace.contains("connect, cgroup"), "{trace}");
    assert!(trace.contains("decided by: its conntrack entry (default/web:http, "), "{trace}");
}
