//! UDP sockets of the node's own processes that outlive what they are connected to: before there is an endpoint, without
//! an agent, many at once, and in another process.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use nix::sys::signal::Signal;
use weir_tests::agent::Agent;
use weir_tests::fixture::Fixture;
use weir_tests::lab::addresses::NODE_GATEWAY;
use weir_tests::lab::{Addresses, Lab, Pod, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{ECHO_PORT, Flow, Origin, UdpServer};
use weir_tests::wait::until;

use crate::addresses::host_processes::{CHANGE, connected, mapped, start};

/// Sockets that are connected at once.
const MANY: usize = 10_000;

/// How long one reply may take, before the datagram is sent again.
const REPLY: Duration = Duration::from_millis(200);

/// A Service and the sockets that are connected to it: of both families, and one of IPv6 to an IPv4-mapped address.
fn sockets(fixture: &Fixture, offer: &Offer) -> Result<Vec<UdpSocket>> {
    let [v4, v6] = Family::ALL.map(|family| cluster_ip(offer, family));
    let ends = [v4, v6].into_iter().chain(mapped(v4));
    ends.map(|end| {
        let socket = connected(&fixture.lab, end)?;
        socket.set_read_timeout(Some(REPLY))?;
        Ok(socket)
    })
    .collect()
}

fn cluster_ip(offer: &Offer, family: Family) -> SocketAddr {
    SocketAddr::new(offer.cluster_ips().of(family), Offer::PORT)
}

/// Sends a datagram and checks who answers.
fn is_answered(socket: &UdpSocket, pod: &str) -> Result<()> {
    socket.send(b"?")?;
    let mut reply = [0; 256];
    let length = socket.recv(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply[..length]);
    ensure!(reply.starts_with(pod), "{reply} instead of {pod}");
    Ok(())
}

#[test]
fn a_socket_that_was_connected_before_there_was_a_service_is_served() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let pod = &fixture.lab.node2.pods[0];
    let mut offer = Offer { name: "late", number: 42, pods: Vec::new() };
    let before = sockets(&fixture, &offer)?;
    fixture.manifests.offer(&offer)?;
    let without_endpoint = sockets(&fixture, &offer)?;
    offer.pods = vec![pod];
    fixture.manifests.offer(&offer)?;
    for socket in before.iter().chain(&without_endpoint) {
        until("the endpoint answers", CHANGE, || is_answered(socket, &pod.name))?;
    }
    Ok(())
}

#[test]
fn a_socket_follows_a_change_that_the_agent_was_dead_for() -> Result<()> {
    let Some(mut fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let mut offer = Offer { name: "orphan", number: 43, pods: vec![&fixture.lab.node1.pods[0]] };
    fixture.add(&offer)?;
    let sockets = sockets(&fixture, &offer)?;
    for socket in &sockets {
        until("the first pod answers", CHANGE, || is_answered(socket, &offer.pods[0].name))?;
    }
    fixture.agent.take().context("the agent has been taken out")?.end(Signal::SIGKILL)?;
    for socket in &sockets {
        is_answered(socket, &offer.pods[0].name)?;
    }
    offer.pods = vec![&fixture.lab.node2.pods[1]];
    fixture.manifests.offer(&offer)?;
    let agent = Agent::start(&fixture.lab.node1, &fixture.manifests, &[])?;
    for socket in &sockets {
        until("the other pod answers", CHANGE, || is_answered(socket, &offer.pods[0].name))?;
    }
    agent.end(Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn a_socket_outlives_a_moment_without_a_default_route() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "flap", number: 49, pods: vec![&lab.node1.pods[0]] };
    fixture.add(&offer)?;
    let sockets = sockets(&fixture, &offer)?;
    for socket in &sockets {
        until("the pod answers", CHANGE, || is_answered(socket, &offer.pods[0].name))?;
    }
    lab.node1.namespace.ip("route delete default\nroute delete ::/0\n")?;
    // The agent sees it, and plans anew.
    offer.pods = vec![&lab.node2.pods[0]];
    fixture.manifests.offer(&offer)?;
    thread::sleep(Duration::from_secs(2));
    let Addresses { v4, v6 } = NODE_GATEWAY;
    lab.node1.namespace.ip(&format!("route add default via {v4}\nroute add default via {v6}\n"))?;
    for socket in &sockets {
        until("the other pod answers", CHANGE, || is_answered(socket, &offer.pods[0].name))?;
    }
    ensure!(fixture.count("weir_udp_sockets_destroyed_total")? == 0, "sockets are destroyed");
    Ok(())
}

#[test]
fn a_child_goes_on_with_the_socket_that_it_got() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let mut offer = Offer { name: "heir", number: 44, pods: vec![&fixture.lab.node1.pods[0]] };
    fixture.add(&offer)?;
    for socket in sockets(&fixture, &offer)? {
        for pod in [&fixture.lab.node1.pods[1], &fixture.lab.node2.pods[0]] {
            offer.pods = vec![pod];
            fixture.manifests.offer(&offer)?;
            until("the new pod answers", CHANGE, || is_answered(&socket, &pod.name))?;
            let inherited = OwnedFd::from(socket.try_clone()?);
            let mut child = Command::new("sh");
            let status = child.args(["-c", "printf child >&0"]).stdin(inherited).status()?;
            ensure!(status.success(), "the child cannot send: {status}");
            let mut reply = [0; 256];
            let length = socket.recv(&mut reply)?;
            let reply = String::from_utf8_lossy(&reply[..length]);
            ensure!(reply.starts_with(&pod.name) && reply.ends_with("child"), "{reply}");
        }
    }
    Ok(())
}

#[test]
fn ten_thousand_sockets_follow_at_once() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let pods = [&fixture.lab.node1.pods[0], &fixture.lab.node2.pods[0]];
    let mut offer = Offer { name: "crowd", number: 45, pods: vec![pods[0]] };
    fixture.add(&offer)?;
    let end = cluster_ip(&offer, Family::V4);
    let sockets: Vec<_> = fixture.lab.node1.namespace.run(|| {
        (0..MANY)
            .map(|_| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(end)?;
                socket.set_read_timeout(Some(REPLY))?;
                Ok(socket)
            })
            .collect::<Result<Vec<_>>>()
    })?;
    for pod in pods {
        offer.pods = vec![pod];
        fixture.manifests.offer(&offer)?;
        until("the pod answers", CHANGE, || is_answered(&sockets[0], &pod.name))?;
        for socket in &sockets {
            is_answered(socket, &pod.name)?;
        }
    }
    Ok(())
}

#[test]
fn a_process_of_this_node_is_reached_as_a_backend() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    // Replies come from the address that was asked, not from the one that the route to the client has.
    let node = &lab.node1;
    let at = |family| (node.addresses.of(family), ECHO_PORT).into();
    let server = |family| UdpServer::start_at(&node.namespace, node.name, at(family));
    let _servers = [server(Family::V4)?, server(Family::V6)?];
    // Their slice may not say which node they are on.
    let (named, nameless) = (process(lab, lab.node1.name), process(lab, ""));
    let mut offer = Offer { name: "at-home", number: 46, pods: vec![&named] };
    fixture.manifests.offer(&offer)?;
    for socket in sockets(&fixture, &offer)? {
        for pod in [&named, &lab.node2.pods[0], &nameless] {
            offer.pods = vec![pod];
            fixture.manifests.offer(&offer)?;
            until("it answers", CHANGE, || is_answered(&socket, &pod.name))?;
        }
    }
    for family in Family::ALL {
        let frontend = (lab.node1.addresses.of(family), offer.node_port()).into();
        for origin in [Origin::Outside, Origin::Pod(&lab.node1.pods[0])] {
            let flow = Flow { origin, frontend, protocol: Protocol::UDP };
            let response = flow.ask(lab, 100)?;
            ensure!(response.pod == nameless.name, "{flow}: {} answers", response.pod);
            ensure!(response.client == response.own, "{flow} comes from {}", response.client);
        }
    }
    Ok(())
}

/// A process of node1 that is a backend; `node` is the name of its node in its slice.
fn process(lab: &Lab, node: &'static str) -> Pod {
    Pod {
        name: "node1".to_owned(),
        node,
        addresses: lab.node1.addresses,
        namespace: lab.node1.namespace.clone(),
        device: String::new(),
    }
}
