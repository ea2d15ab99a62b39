//! Traces of packets that pass devices without programs.

use super::*;

/// A client that the route to it places behind `device`.
fn behind(device: u32, sender: &str, destination: &str, class: SourceClass) -> Question {
    let because = "routed to it".into();
    Question { because, device: Some(device), ..question(sender, destination, class) }
}

#[test]
fn a_client_behind_a_device_without_programs_is_not_seen() {
    let asked = behind(3, "198.18.0.9:40000", "192.0.2.1:30080/tcp", SourceClass::Network);
    insta::assert_snapshot!(trace(&world(), &asked).to_string());
    let asked = behind(3, "198.18.0.9:40000", "10.96.0.1:80/tcp", SourceClass::Network);
    let trace = trace(&world(), &asked).to_string();
    let end = "not seen by Weir: eth1 has no programs (not among --network-devices): sent out of eth0 as \
               198.18.0.9:40000 > 10.96.0.1:80\n";
    assert!(trace.contains(end) && trace.contains("decided by: no Service\n"), "{trace}");
}

#[test]
fn a_walk_names_the_device_that_the_packet_comes_in_by() {
    let asked = behind(2, "192.0.2.9:40000", "192.0.2.1:30080/tcp", SourceClass::Network);
    let trace = trace(&world(), &asked).to_string();
    assert!(trace.contains("\ningress, network device eth0:\n"), "{trace}");
    assert!(!trace.contains("not seen") && !trace.contains("what to change"), "{trace}");
}

#[test]
fn what_leaves_by_a_device_without_programs_is_not_translated_there() {
    let because = "neither it nor its replies are translated there: eth1 has no programs (not among --network-devices)\n";
    let reply = question("192.0.2.1:8080", "198.18.0.9:40000/tcp", SourceClass::Host);
    let trace = |asked| trace(&world(), &asked).to_string();
    let text = trace(reply);
    let end = "verdict: not seen by Weir: eth1 has no programs";
    assert!(text.contains(because) && text.contains(end), "{text}");
    let text = trace(behind(5, "10.244.1.9:40000", "198.18.0.9:80/tcp", SourceClass::Pod));
    let end = "verdict: passed-not-a-service: sent out of eth1";
    assert!(text.contains(because) && text.contains(end), "{text}");
    assert!(text.contains("ingress, pod device veth1:\n"), "{text}");
}

#[test]
fn replies_that_come_in_by_a_device_without_programs_are_not_translated() {
    let mut world = world();
    world.v4.routes.insert(V4([10, 244, 2, 1]), NextHop { device: 3, mtu: 0, link: None });
    world.v4.device_addresses.insert(3, V4([192, 0, 2, 1]));
    let to = "192.0.2.1:30080/tcp";
    let from = sender("192.0.2.9", to, SourceClass::Network, Outcome::ForwardedSnat);
    let trace = trace(&world, &behind(2, &from, to, SourceClass::Network)).to_string();
    let end = "neighbour; its replies are not translated: eth1 has no programs (";
    assert!(trace.contains(end), "{trace}");
}
