//! Sockets of the node's own processes while backends, or the agent, change.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, weir};
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{AttemptResult, ECHO_PORT, Flow, Origin, TIMEOUT, attempt};
use weir_tests::wait::until;

use super::host_processes::{
    AT_ONCE, CHANGE, asked, connected, frontends, mapped, start, udp_socket,
};

#[test]
fn a_connected_udp_socket_is_destroyed_when_its_backend_is_removed() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "moving", number: 37, pods: vec![&lab.node1.pods[0]] };
    let frontends = frontends(lab, &offer);
    let mut ends = frontends.clone();
    ends.extend(frontends.into_iter().filter_map(mapped));
    // Two that Weir did not balance: one to a pod directly, and one that was connected before there was
    // a Service, which is then destroyed, too.
    let pod = |family| SocketAddr::new(lab.node1.pods[0].addresses.of(family), ECHO_PORT);
    let direct = connected(lab, pod(Family::V4))?;
    let early = connected(lab, ends[0])?;
    fixture.add(&offer)?;
    until("the early socket is destroyed", CHANGE, || was_destroyed(&early))?;

    let sockets: Vec<_> = ends.iter().map(|end| connected(lab, *end)).collect::<Result<_>>()?;
    let are_counted = |all: u64| {
        until("all are counted", CHANGE, || {
            let ended = fixture.count("weir_udp_sockets_destroyed_total")?;
            ensure!(ended == all, "{ended} of {all}");
            Ok(())
        })
    };
    are_counted(1)?;
    for next in [&lab.node2.pods[0], &lab.node1.pods[1]] {
        for socket in &sockets {
            exchange(socket)?;
        }
        offer.pods = vec![next];
        fixture.manifests.offer(&offer)?;
        for (socket, end) in sockets.iter().zip(&ends) {
            until("the socket is destroyed", CHANGE, || was_destroyed(socket))?;
            socket.connect(end)?;
            let response = exchange(socket)?;
            ensure!(response.starts_with(&next.name), "{response} instead of {}", next.name);
        }
        exchange(&direct)?;
    }
    are_counted(1 + 2 * sockets.len() as u64)
}

/// Sends a datagram and returns the reply.
fn exchange(socket: &UdpSocket) -> Result<String> {
    socket.send(b"?")?;
    let mut response = [0; 256];
    let length = socket.recv(&mut response)?;
    Ok(String::from_utf8_lossy(&response[..length]).into_owned())
}

/// Checks that the kernel has ended the connection of a socket, which takes the error off it.
fn was_destroyed(socket: &UdpSocket) -> Result<()> {
    let error = socket.take_error()?.context("the socket is still connected")?;
    ensure!(error.kind() == ErrorKind::ConnectionAborted, "{error}");
    Ok(())
}

#[test]
fn connections_of_processes_outlive_the_agent_and_the_next_one_takes_over() -> Result<()> {
    let Some(mut fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let end = |family| {
        let offer = ServedBy::AllPods.offer(&fixture.lab);
        SocketAddr::new(offer.cluster_ips().of(family), Offer::PORT)
    };
    let ends = Family::ALL.map(end);
    let sockets = ends.map(|end| udp_socket(&fixture.lab, end));
    let streams = ends.map(|end| {
        fixture.lab.node1.namespace.run(|| Ok(TcpStream::connect_timeout(&end, TIMEOUT)?))
    });
    let check_all = || -> Result<()> {
        for ((end, socket), stream) in ends.iter().zip(&sockets).zip(&streams) {
            let (socket, stream) = (socket.as_ref(), stream.as_ref());
            let (Ok(socket), Ok(stream)) = (socket, stream) else {
                anyhow::bail!("cannot connect to {end}: {socket:?}, {stream:?}");
            };
            ensure!(asked(socket, *end)? == *end, "a reply not from {end}");
            ensure!(stream.peer_addr()? == *end, "{end} is shown as {}", stream.peer_addr()?);
        }
        for frontend in ends {
            Flow { origin: Origin::Host, frontend, protocol: Protocol::TCP }
                .send(&fixture.lab, 1)?;
        }
        Ok(())
    };
    check_all()?;
    fixture.agent.take().context("the agent has been taken out")?.end(Signal::SIGKILL)?;
    check_all()?;
    let agent = Agent::start(&fixture.lab.node1, &fixture.manifests, &[])?;
    check_all()?;
    agent.end(Signal::SIGTERM)?;

    // The next one does not balance sockets.
    let off = ["--socket-balancing", "off"];
    let agent = Agent::start(&fixture.lab.node1, &fixture.manifests, &off)?;
    let status = weir(&fixture.lab.node1, &["show", "status"])?;
    ensure!(!is_served(&fixture.lab, ends[0])?, "sockets are still balanced: {status}");
    agent.end(Signal::SIGTERM)?;
    let agent = Agent::start(&fixture.lab.node1, &fixture.manifests, &[])?;
    ensure!(is_served(&fixture.lab, ends[0])?, "sockets are not balanced again");
    agent.end(Signal::SIGTERM)?;
    weir(&fixture.lab.node1, &["detach"])?;
    ensure!(!is_served(&fixture.lab, ends[0])?, "programs are still on the control group");
    Ok(())
}

/// Whether a process of node1 reaches `end`.
fn is_served(lab: &Lab, end: SocketAddr) -> Result<bool> {
    let result = attempt(&lab.node1.namespace, end, Protocol::TCP, AT_ONCE);
    Ok(matches!(result, Ok(AttemptResult::Replied)))
}

#[test]
fn new_connections_of_processes_follow_a_rolling_change() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "rolling", number: 34, pods: vec![&lab.node1.pods[0]] };
    fixture.add(&offer)?;
    let end = SocketAddr::new(offer.cluster_ips().of(Family::V4), Offer::PORT);
    let socket = udp_socket(lab, end)?;
    for pod in lab.pods() {
        offer.pods = vec![pod];
        fixture.manifests.offer(&offer)?;
        let flow = Flow { origin: Origin::Host, frontend: end, protocol: Protocol::TCP };
        until("the new pod answers", CHANGE, || {
            let response = flow.send(lab, 1)?;
            ensure!(response.pod == pod.name, "{} answers", response.pod);
            Ok(())
        })?;
        // A socket that is not connected moves at its next datagram.
        ensure!(asked(&socket, end)? == end, "a reply not from {end}");
    }
    Ok(())
}
