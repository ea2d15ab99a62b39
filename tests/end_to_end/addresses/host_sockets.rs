//! Sockets of the node's own processes while backends, or the agent, change.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use weir_tests::agent::{Agent, binary, weir};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;
use weir_tests::requires::other_layout;
use weir_tests::traffic::{AttemptResult, ECHO_PORT, Flow, Origin, TIMEOUT, attempt};
use weir_tests::wait::until;

use super::host_processes::{
    AT_ONCE, CHANGE, asked, connected, mapped, of_family, start, udp_socket,
};

/// At a node port, whose address is the node's own: its packets leave by no device where they could be translated.
#[test]
fn a_udp_socket_connected_to_a_node_port_is_destroyed_when_its_backend_is_removed() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "moving", number: 37, pods: vec![&lab.node1.pods[0]] };
    let frontends = Family::ALL.map(|family| of_family(lab, &offer, family)[1]).to_vec();
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
    let talks = Talks::begin(&fixture.lab)?;
    let ends = talks.ends;
    let check_all = || talks.check(&fixture.lab);
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

#[test]
fn processes_see_the_same_peers_when_a_release_with_another_layout_takes_over() -> Result<()> {
    let Some(other) = other_layout() else { return Ok(()) };
    let Some(mut fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    let mut talks = vec![Talks::begin(&fixture.lab)?];
    fixture.agent.take().context("the agent has been taken out")?.end(Signal::SIGKILL)?;
    for binary in [other, binary()?] {
        let agent = Agent::start_binary(&binary, node, &fixture.manifests, &[])?;
        ensure!(agent.lines("WARN").is_empty(), "{}", agent.log());
        talks.push(Talks::begin(&fixture.lab)?);
        for talk in &talks {
            talk.check(&fixture.lab).with_context(|| agent.log())?;
        }
        agent.end(Signal::SIGKILL)?;
    }
    let shown = weir(node, &["show", "status"])?;
    ensure!(shown.contains("IPv4"), "{shown}");
    let removed = weir(node, &["detach"])?;
    let is_served = is_served(&fixture.lab, talks[0].ends[0])?;
    ensure!(!is_served, "programs are still attached: {removed}");
    let left = node.bpffs.join("weir");
    ensure!(!left.exists(), "{} is left", left.display());
    Ok(())
}

/// The programs before note them while the next ones are being attached.
#[test]
fn udp_sockets_that_are_connected_amid_a_takeover_are_destroyed_when_their_backend_is_removed()
-> Result<()> {
    let Some(other) = other_layout() else { return Ok(()) };
    let Some(mut fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let pods = [&fixture.lab.node1.pods[0], &fixture.lab.node2.pods[0]];
    let mut offer = Offer { name: "moving", number: 37, pods: vec![pods[0]] };
    let [_, node_port] = of_family(&fixture.lab, &offer, Family::V4);
    fixture.add(&offer)?;
    fixture.agent.take().context("the agent has been taken out")?.end(Signal::SIGKILL)?;
    let Fixture { lab, manifests, .. } = &fixture;
    let over = AtomicBool::new(false);
    let (agent, sockets) = thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_until(lab, node_port, &over));
        let agent = Agent::start_binary(&other, &lab.node1, manifests, &[]);
        over.store(true, Ordering::Relaxed);
        let sockets = connecting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((agent?, sockets?))
    })?;
    ensure!(agent.lines("taken over from another layout").len() == 1, "{}", agent.log());
    offer.pods = vec![pods[1]];
    manifests.offer(&offer)?;
    let mut left = sockets.len();
    until("the sockets are destroyed", CHANGE, || {
        left -= sockets.iter().filter(|socket| was_destroyed(socket).is_ok()).count();
        ensure!(left == 0, "{left} of {} are not:\n{}", sockets.len(), agent.log());
        Ok(())
    })
}

/// Connects sockets of node1 to `end`, one after the other.
fn connect_until(lab: &Lab, end: SocketAddr, over: &AtomicBool) -> Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    while !over.load(Ordering::Relaxed) {
        sockets.push(connected(lab, end)?);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(sockets)
}

/// What processes of node1 have to do with a Service, by both families.
struct Talks {
    ends: [SocketAddr; 2],
    sockets: Vec<UdpSocket>,
    streams: Vec<TcpStream>,
}

impl Talks {
    fn begin(lab: &Lab) -> Result<Self> {
        let offer = ServedBy::AllPods.offer(lab);
        let ends =
            Family::ALL.map(|family| SocketAddr::new(offer.cluster_ips().of(family), Offer::PORT));
        let connect =
            |end| lab.node1.namespace.run(|| Ok(TcpStream::connect_timeout(end, TIMEOUT)?));
        let talks = Self {
            ends,
            sockets: ends.iter().map(|end| udp_socket(lab, *end)).collect::<Result<_>>()?,
            streams: ends.iter().map(connect).collect::<Result<_>>()?,
        };
        talks.check(lab)?;
        Ok(talks)
    }

    /// Whether all go on, with the peers that the processes know, and new ones are served.
    fn check(&self, lab: &Lab) -> Result<()> {
        for ((end, socket), stream) in self.ends.iter().zip(&self.sockets).zip(&self.streams) {
            ensure!(asked(socket, *end)? == *end, "a reply not from {end}");
            ensure!(stream.peer_addr()? == *end, "{end} is shown as {}", stream.peer_addr()?);
        }
        for frontend in self.ends {
            let flow = Flow { origin: Origin::Host, frontend, protocol: Protocol::TCP };
            flow.send(lab, 1)?;
        }
        Ok(())
    }
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

/// By TCP its packets go by that device to the backend, as with kube-proxy, and by UDP wherever the backend is.
#[test]
fn a_socket_that_is_bound_to_a_device_reaches_services() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let device = OsString::from("eth0");
    for family in Family::ALL {
        let at = |served: ServedBy| {
            SocketAddr::new(served.offer(lab).cluster_ips().of(family), Offer::PORT)
        };
        let remote = at(ServedBy::RemotePods);
        let stream = tcp_by(lab, &device, remote).with_context(|| remote.to_string())?;
        ensure!(stream.peer_addr()? == remote, "{remote}: {}", stream.peer_addr()?);
        for end in [remote, at(ServedBy::LocalPods)] {
            let socket = udp_socket(lab, end)?;
            setsockopt(&socket, sockopt::BindToDevice, &device)?;
            socket.connect(end)?;
            ensure!(asked_connected(&socket)? == end, "a reply not from {end}");
        }
    }
    Ok(())
}

/// A connection of node1 to `to` by `device` alone.
fn tcp_by(lab: &Lab, device: &OsString, to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let new = || Ok(socket(family, SockType::Stream, SockFlag::empty(), None)?);
    let socket = lab.node1.namespace.run(new)?;
    setsockopt(&socket, sockopt::BindToDevice, device)?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(TIMEOUT.as_secs() as i64))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// Sends a datagram on a connected socket; the source of the reply.
fn asked_connected(socket: &UdpSocket) -> Result<SocketAddr> {
    socket.send(b"?")?;
    let (_, from) = socket.recv_from(&mut [0; 256])?;
    Ok(from)
}
