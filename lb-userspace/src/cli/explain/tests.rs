//! Traces through the small node of [`crate::cli::sample`].

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{V4, endpoint};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::hook::Hook;
use lb_ebpf::in_memory::World;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::{NextHop, Table};

use super::args::{Destination, Sender};
use super::node::{ControlGroup, NodeView};
use super::packet;
use super::trace::{Question, Trace};
use crate::cli::output::json;
use crate::cli::sample;
use crate::host::devices::RouteTarget;
use crate::maps::Contents;
use crate::model::{Affinity, Cluster, Name, TrafficPolicy};

/// The node around the maps: pods behind veth1, the rest behind eth0.
struct SampleNode;

impl NodeView for SampleNode {
    fn route(&self, destination: IpAddr) -> RouteTarget {
        match destination.to_string().as_str() {
            "192.0.2.1" => RouteTarget::Local,
            "203.0.113.1" => RouteTarget::Unreachable,
            text if text.starts_with("10.244.1.") => RouteTarget::Device(5),
            _ => RouteTarget::Device(2),
        }
    }

    fn device(&self, index: u32) -> String {
        if index == 2 { "eth0".into() } else { "veth1".into() }
    }

    fn control_group(&self) -> ControlGroup {
        ControlGroup::At("/sys/fs/cgroup".into())
    }
}

fn world() -> World<Contents> {
    let mut world = World::new(sample::contents());
    for (address, device) in [([10, 244, 1, 1], 5), ([10, 244, 2, 1], 2), ([192, 0, 2, 9], 2)] {
        world.v4.routes.insert(V4(address), NextHop { device, mtu: 0, link: None });
    }
    world.v4.device_addresses.insert(2, V4([192, 0, 2, 1]));
    world
}

fn question(sender: &str, destination: &str, class: SourceClass) -> Question {
    Question {
        sender: sender.parse::<Sender>().unwrap(),
        destination: destination.parse::<Destination>().unwrap(),
        class,
        because: "given by --from".into(),
    }
}

fn trace(world: &World<Contents>, question: &Question) -> Trace {
    Trace::of(world, &SampleNode, &sample::contents(), question)
}

/// Sends a packet, whose outcome it returns.
fn send(
    world: &World<Contents>,
    (from, to): (&str, &str),
    class: SourceClass,
    opens: bool,
) -> Outcome {
    let Destination { address, port, protocol } = to.parse().unwrap();
    let from: SocketAddr = from.parse().unwrap();
    let mut frame = packet::frame(from, endpoint(address, port), protocol, opens).unwrap();
    let point = if class == SourceClass::Host { HookPoint::Egress } else { HookPoint::Ingress };
    let hook = Hook { point, class, can_pass_to_stack: true };
    walk(&mut frame, world, hook, &mut Scratch::new()).outcome
}

/// The first port from which a new flow of `sender` ends with `outcome`: which backend a flow gets
/// hangs on its hash.
fn sender(address: &str, to: &str, class: SourceClass, outcome: Outcome) -> String {
    let mut ports = (40_000..41_000).map(|port| format!("{address}:{port}"));
    let ends = |from: &String| send(&world(), (from, to), class, true) == outcome;
    ports.find(ends).expect("one port of a thousand leads to each backend")
}

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
    assert_eq!(
        decided("10.244.1.9", "203.0.113.9:80/tcp", SourceClass::Pod).as_deref(),
        Some("no Service")
    );
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

/// Traces a process of this node, or of a pod, where sockets of both are balanced.
fn call(cluster: &Cluster, (from, to): (&str, &str), class: SourceClass) -> String {
    let contents = sample::planned_for_sockets(cluster);
    let world = World::new(contents.clone());
    Trace::of(&world, &SampleNode, &contents, &question(from, to, class)).to_string()
}

#[test]
fn a_process_of_this_node_is_traced_from_its_call_to_its_egress() {
    let ends = ("192.0.2.1", "10.96.0.1:80/tcp");
    insta::assert_snapshot!(call(&sample::cluster(), ends, SourceClass::Host));
}

#[test]
fn a_call_that_fails_has_its_error_and_the_rule() {
    let mut cluster = sample::cluster();
    let web = cluster.services.get_mut(&Name::new("default", "web")).unwrap();
    web.internal_policy = TrafficPolicy::Local;
    web.load_balancer_ips = vec!["198.51.100.1".parse().unwrap()];
    web.source_ranges = Some(vec!["203.0.113.0/24".parse().unwrap()]);
    let slice = cluster.slices.get_mut(&Name::new("default", "web")).unwrap();
    slice.endpoints.retain(|endpoint| endpoint.node.as_deref() != Some("here"));
    for (to, [outcome, rule, error]) in [
        (
            "10.96.0.2:81/tcp",
            ["rejected-no-endpoint", "no endpoint is ready", "fails with ECONNREFUSED (EPERM"],
        ),
        (
            "10.96.0.1:80/tcp",
            ["dropped-no-local-endpoint", "internalTrafficPolicy Local", "fails with EPERM"],
        ),
        (
            // The node's own address stands for a process, whatever it sends from.
            "198.51.100.1:80/tcp",
            ["dropped-source-range", "none of which contains 192.0.2.1", "fails with EPERM"],
        ),
        (
            "10.96.0.1:81/tcp",
            ["rejected-no-such-port", "has the ports 80/tcp", "fails with ECONNREFUSED (EPERM"],
        ),
        (
            "10.96.0.9:80/tcp",
            ["dropped-unallocated-address", "service CIDR 10.96.0.0/16", "fails with EPERM"],
        ),
    ] {
        let trace = call(&cluster, ("127.0.0.1", to), SourceClass::Host);
        for text in [outcome, rule, error] {
            assert!(trace.contains(text), "{trace}");
        }
        assert!(!trace.contains("egress"), "{trace}");
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
