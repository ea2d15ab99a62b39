//! Stories told of the small node of [`crate::cli::sample`].

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{V4, endpoint};
use lb_common::connection::Place;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::balance::{Flows, Hook, balance};
use lb_ebpf::memory::World;
use lb_ebpf::tables::{NextHop, Table};

use super::ends::{Destination, Sender};
use super::node::{Around, ControlGroup};
use super::packet;
use super::story::{Question, Story};
use crate::cli::output::json;
use crate::cli::sample;
use crate::maps::Contents;
use crate::model::{Affinity, Cluster, Name, TrafficPolicy};
use crate::programs::devices::Way;

/// The node around the maps: pods behind veth1, the rest behind eth0.
struct Here;

impl Around for Here {
    fn way(&self, destination: IpAddr) -> Way {
        match destination.to_string().as_str() {
            "192.0.2.1" => Way::Here,
            "203.0.113.1" => Way::None,
            text if text.starts_with("10.244.1.") => Way::Out(5),
            _ => Way::Out(2),
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
    world.v4.own_addresses.insert(2, V4([192, 0, 2, 1]));
    world
}

fn question(sender: &str, destination: &str, class: SourceClass) -> Question {
    Question {
        sender: sender.parse::<Sender>().unwrap(),
        destination: destination.parse::<Destination>().unwrap(),
        class,
        because: "as --from says".into(),
    }
}

fn told(world: &World<Contents>, question: &Question) -> Story {
    Story::tell(world, &Here, &sample::contents(), question)
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
    let place = if class == SourceClass::Host { Place::Egress } else { Place::Ingress };
    let hook = Hook { place, class, goes_on: true };
    balance(&mut frame, world, hook, &mut Flows::new()).outcome
}

/// The first port from which a new flow of `sender` ends with `outcome`: which backend a flow gets
/// hangs on its hash.
fn sender(address: &str, to: &str, class: SourceClass, outcome: Outcome) -> String {
    let mut ports = (40_000..41_000).map(|port| format!("{address}:{port}"));
    let ends = |from: &String| send(&world(), (from, to), class, true) == outcome;
    ports.find(ends).expect("one port of a thousand leads to each backend")
}

#[test]
fn a_new_flow_of_a_pod_is_told_from_the_frontend_to_the_backend() {
    let asked = question("10.244.1.9", "10.96.0.1:80/tcp", SourceClass::Pod);
    insta::assert_snapshot!(told(&world(), &asked).to_string());
}

#[test]
fn an_established_flow_is_told_in_one_look_up() {
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::Forwarded);
    send(&world, (&from, to), SourceClass::Network, true);
    let answers = ("10.244.1.1:8080", format!("{from}/tcp"));
    let replied = send(&world, (answers.0, &answers.1), SourceClass::Host, false);
    assert_eq!(replied, Outcome::Replied);
    send(&world, (&from, to), SourceClass::Network, false);
    assert_eq!(world.v4.entries(Table::Established).len(), 2);
    insta::assert_snapshot!(told(&world, &question(&from, to, SourceClass::Network)).to_string());
}

#[test]
fn a_packet_of_no_service_is_told_to_be_left_alone() {
    let asked = question("10.244.1.9:40000", "10.96.0.9:80/tcp", SourceClass::Pod);
    insta::assert_snapshot!(told(&world(), &asked).to_string());
}

#[test]
fn a_service_without_endpoints_is_told_to_be_the_reason() {
    let asked = question("10.244.1.9:40000", "10.96.0.2:81/tcp", SourceClass::Pod);
    insta::assert_snapshot!(told(&world(), &asked).to_string());
}

#[test]
fn a_pod_that_reaches_itself_is_told_why_its_packets_turn_back() {
    let to = "10.96.0.1:80/tcp";
    let from = sender("10.244.1.1", to, SourceClass::Pod, Outcome::ForwardedBack);
    insta::assert_snapshot!(told(&world(), &question(&from, to, SourceClass::Pod)).to_string());
}

#[test]
fn a_backend_elsewhere_is_told_to_need_an_address_of_this_node() {
    let to = "192.0.2.1:30080/tcp";
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::ForwardedOut);
    insta::assert_snapshot!(told(&world(), &question(&from, to, SourceClass::Network)).to_string());
}

#[test]
fn the_rule_that_decided_is_named() {
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
        let story = Story::tell(&world, &Here, &contents, &question(from, to, class)).to_string();
        story.split("decided by: ").nth(1).and_then(|rest| rest.lines().next()).map(str::to_owned)
    };
    let check = |from, to, class, rule: &str| {
        assert_eq!(decided(from, to, class).as_deref(), Some(rule), "{from} > {to}");
    };
    let local = |policy| format!("{policy} Local, no local endpoint; 1 elsewhere");
    check(
        "192.0.2.9",
        "192.0.2.1:30080/tcp",
        SourceClass::Network,
        &local("externalTrafficPolicy"),
    );
    check("10.244.1.9", "10.96.0.1:80/tcp", SourceClass::Pod, &local("internalTrafficPolicy"));
    check("10.244.1.9", "192.0.2.1:30080/tcp", SourceClass::Pod, "policy Cluster, 1 endpoint");
    let ranges = "loadBalancerSourceRanges 192.0.2.0/24, none of which holds 203.0.113.9";
    check("203.0.113.9", "198.51.100.1:80/tcp", SourceClass::Network, ranges);
    let no_endpoint = "no endpoint is ready, and none serves while it terminates";
    check("10.244.1.9", "10.96.0.2:81/tcp", SourceClass::Pod, no_endpoint);
    assert_eq!(decided("10.244.1.9", "203.0.113.9:80/tcp", SourceClass::Pod), None);
}

#[test]
fn the_fields_of_a_story_are_these() {
    let asked = question("10.244.1.9:40000", "10.96.0.2:81/udp", SourceClass::Pod);
    insta::assert_snapshot!(json(&told(&world(), &asked)).unwrap());
}

#[test]
fn a_source_port_is_chosen_that_no_flow_uses() {
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    send(&world, ("10.244.1.9:40000", to), SourceClass::Pod, true);
    let story = told(&world, &question("10.244.1.9", to, SourceClass::Pod)).to_string();
    assert!(story.contains("its source port is 40001"), "{story}");
}

#[test]
fn a_packet_that_no_route_takes_is_told_to_be_dropped_by_the_kernel() {
    let asked = question("10.244.1.9:40000", "203.0.113.1:80/tcp", SourceClass::Pod);
    assert!(told(&world(), &asked).to_string().contains("no route leads to 203.0.113.1"));
}

/// Tells of a process of this node, or of a pod, where sockets of both are balanced.
fn called(cluster: &Cluster, (from, to): (&str, &str), class: SourceClass) -> String {
    let contents = sample::planned_for_sockets(cluster);
    let world = World::new(contents.clone());
    Story::tell(&world, &Here, &contents, &question(from, to, class)).to_string()
}

#[test]
fn a_process_of_this_node_is_told_of_from_its_call_to_its_packets_way_out() {
    let ends = ("192.0.2.1", "10.96.0.1:80/tcp");
    insta::assert_snapshot!(called(&sample::cluster(), ends, SourceClass::Host));
}

#[test]
fn a_call_that_fails_is_told_with_its_error_and_the_rule() {
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
            ["dropped-source-range", "none of which holds 192.0.2.1", "fails with EPERM"],
        ),
        (
            "10.96.0.1:81/tcp",
            ["rejected-undefined-port", "has the ports 80/tcp", "fails with ECONNREFUSED (EPERM"],
        ),
        (
            "10.96.0.9:80/tcp",
            ["dropped-unallocated-address", "service CIDR 10.96.0.0/16", "fails with EPERM"],
        ),
    ] {
        let story = called(&cluster, ("127.0.0.1", to), SourceClass::Host);
        for told in [outcome, rule, error] {
            assert!(story.contains(told), "{story}");
        }
        assert!(!story.contains("on its way"), "{story}");
    }
}

#[test]
fn a_process_that_dials_no_service_is_told_of_at_both_hooks() {
    let ends = ("192.0.2.1:40000", "203.0.113.9:80/tcp");
    let story = called(&sample::cluster(), ends, SourceClass::Host);
    let (call, packet) = story.split_once("on its way out of eth0").unwrap();
    assert!(call.contains("calls connect, on the control group /sys/fs/cgroup"), "{story}");
    assert!(call.contains("passed-not-a-service") && packet.contains("passed-not-a-service"));
}

#[test]
fn a_pods_call_is_told_where_pods_sockets_are_balanced() {
    let ends = ("10.244.1.9:40000", "10.96.0.1:80/tcp");
    let story = called(&sample::cluster(), ends, SourceClass::Pod);
    let (call, packet) = story.split_once("on its way in, at the pod's device").unwrap();
    assert!(call.contains("forwarded-socket"), "{story}");
    assert!(packet.contains("passed-not-a-service"), "{story}");
    // What goes by the client's address has to wait for a packet.
    let mut cluster = sample::cluster();
    let web = cluster.services.get_mut(&Name::new("default", "web")).unwrap();
    web.affinity = Affinity::ClientIp { timeout_seconds: 60 };
    let story = called(&cluster, ends, SourceClass::Pod);
    let (call, packet) = story.split_once("on its way in, at the pod's device").unwrap();
    assert!(call.contains("passed-left-to-tc"), "{story}");
    assert!(packet.contains("=> forwarded:"), "{story}");
}

#[test]
fn packets_of_processes_whose_sockets_are_not_balanced_are_told_to_go_out_as_they_are() {
    let asked = question("192.0.2.1:40000", "10.96.0.1:80/tcp", SourceClass::Host);
    let story = told(&world(), &asked).to_string();
    assert!(story.contains("--socket-balancing off"), "{story}");
    assert!(!story.contains("calls connect"), "{story}");
    assert!(story.contains("on its way out of eth0"), "{story}");
    let ends = ("192.0.2.1:40000", "10.96.0.1:80/sctp");
    let story = called(&sample::cluster(), ends, SourceClass::Host);
    assert!(story.contains("sockets of SCTP are not balanced"), "{story}");
    assert!(!story.contains("calls connect"), "{story}");
}

#[test]
fn answers_of_a_process_are_told_without_a_call() {
    let contents = sample::planned_for_sockets(&sample::cluster());
    let (world, to) = (world(), "10.96.0.1:80/tcp");
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::Forwarded);
    send(&world, (&from, to), SourceClass::Network, true);
    let answers = question("10.244.1.1:8080", &format!("{from}/tcp"), SourceClass::Host);
    let story = Story::tell(&world, &Here, &contents, &answers).to_string();
    assert!(story.contains("=> replied") && !story.contains("calls connect"), "{story}");
}
