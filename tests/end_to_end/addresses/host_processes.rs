//! Processes of the node itself reach Services as pods do: their sockets get a backend at connect(2) or
//! sendmsg(2), and getpeername(2) and recvmsg(2) return the frontend.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use lb_userspace::datapath::features::Features;
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, weir};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Attachment, Lab, PodRouting, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::requires;
use weir_tests::traffic::{AttemptResult, ECHO_PORT, Flow, Origin, TIMEOUT, attempt};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

/// How long a call may take that fails without any packet.
const AT_ONCE: Duration = Duration::from_millis(500);

#[test]
fn processes_of_the_node_reach_services_over_routes() -> Result<()> {
    reach(Shape::default())
}

#[test]
fn processes_of_the_node_reach_services_through_an_overlay() -> Result<()> {
    reach(Shape {
        pod_routing: PodRouting::Overlay,
        attachment: Attachment::Bridged,
        ..Shape::default()
    })
}

fn reach(shape: Shape) -> Result<()> {
    let Some(fixture) = start(shape)? else {
        return Ok(());
    };
    for served in ServedBy::ALL {
        let offer = served.offer(&fixture.lab);
        for frontend in frontends(&fixture.lab, &offer) {
            for (protocol, lengths) in
                [(Protocol::TCP, &[1, 1 << 20][..]), (Protocol::UDP, &[1, 1300])]
            {
                for length in lengths {
                    let flow = Flow { origin: Origin::Host, frontend, protocol };
                    let response = flow.send(&fixture.lab, *length)?;
                    let allowed = offer.pods.iter().any(|pod| pod.name == response.pod);
                    ensure!(allowed, "{} serves {flow}", response.pod);
                }
            }
        }
    }
    ensure!(fixture.counted(Outcome::SocketConnected)? > 0);
    Ok(())
}

#[test]
fn getpeername_and_recvmsg_return_the_frontend() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let node = &fixture.lab.node1.namespace;
    for frontend in frontends(&fixture.lab, &offer) {
        for to in [Some(frontend), mapped(frontend)].into_iter().flatten() {
            let stream = node.run(|| Ok(TcpStream::connect_timeout(&to, TIMEOUT)?))?;
            ensure!(stream.peer_addr()? == to, "{to}: {}", stream.peer_addr()?);

            let socket = udp_socket(&fixture.lab, to)?;
            // Not connected: every datagram has its own destination and source.
            for _ in 0..3 {
                ensure!(asked(&socket, to)? == to, "a reply not from {to}");
            }
            socket.connect(to)?;
            ensure!(socket.peer_addr()? == to, "{to}: {}", socket.peer_addr()?);
            ensure!(asked(&socket, to)? == to, "a reply not from {to}");
        }
    }
    Ok(())
}

#[test]
fn a_socket_that_is_not_connected_speaks_to_several_services() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    for family in Family::ALL {
        let ends = ServedBy::ALL.map(|served| {
            SocketAddr::new(served.offer(&fixture.lab).cluster_ips().of(family), Offer::PORT)
        });
        let socket = udp_socket(&fixture.lab, ends[0])?;
        for end in ends.into_iter().chain(ends) {
            ensure!(asked(&socket, end)? == end, "a reply not from {end}");
        }
    }
    Ok(())
}

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

/// A socket of node1 that is connected to `end`.
fn connected(lab: &Lab, end: SocketAddr) -> Result<UdpSocket> {
    let socket = udp_socket(lab, end)?;
    socket.connect(end).with_context(|| format!("cannot connect to {end}"))?;
    Ok(socket)
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
fn what_nobody_serves_is_refused_at_once_and_what_is_dropped_is_forbidden() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let nobody = Offer { name: "nobody", number: 31, pods: Vec::new() };
    fixture.manifests.offer(&nobody)?;
    let remote = Offer { name: "remote", number: 32, pods: lab.node2.pods.iter().collect() };
    let spec = vec!["internalTrafficPolicy: Local", "externalTrafficPolicy: Local"];
    fixture.manifests.offer_under(&remote, &Rules { spec, ..Rules::default() })?;
    let undefined = |frontend: SocketAddr| SocketAddr::new(frontend.ip(), Offer::PORT + 1);
    for family in Family::ALL {
        let [cluster_ip, node_port] = of_family(lab, &remote, family);
        // To this node's own processes the policy for traffic from outside is Cluster.
        gets(lab, node_port, AttemptResult::Replied)?;
        gets(lab, cluster_ip, AttemptResult::Forbidden)?;
        let [cluster_ip, node_port] = of_family(lab, &nobody, family);
        gets(lab, cluster_ip, rejected())?;
        gets(lab, node_port, rejected())?;
        // A datagram socket may be connected there, to learn which source address it would have.
        let missing = undefined(cluster_ip);
        let result = attempt(&lab.node1.namespace, missing, Protocol::TCP, AT_ONCE)?;
        ensure!(result == rejected(), "{missing}/tcp: {result:?}");
        connected(lab, missing)?;
        let error = udp_socket(lab, missing)?.send_to(b"?", missing).err();
        let kind = error.as_ref().map(std::io::Error::kind);
        let wanted = if rejected() == AttemptResult::Refused {
            ErrorKind::ConnectionRefused
        } else {
            ErrorKind::PermissionDenied
        };
        ensure!(kind == Some(wanted), "{missing}/udp: {error:?}");
    }
    Ok(())
}

/// How a rejected call fails: with `EPERM` on kernels where a program cannot set another error.
pub fn rejected() -> AttemptResult {
    if Features::of_this_kernel().sets_errors() {
        AttemptResult::Refused
    } else {
        AttemptResult::Forbidden
    }
}

/// Checks the result of TCP and UDP connections to `at`, once Weir serves it.
pub fn gets(lab: &Lab, at: SocketAddr, expected: AttemptResult) -> Result<()> {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        until("the Service is known", CHANGE, || {
            let begun = Instant::now();
            let result = attempt(&lab.node1.namespace, at, protocol, AT_ONCE)?;
            let took = begun.elapsed();
            ensure!(
                result == expected && took < AT_ONCE,
                "{at}/{protocol}: {result:?} after {took:?}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn source_ranges_hold_for_the_node_too() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "closed", number: 33, pods: lab.node1.pods.iter().collect() };
    let own = &lab.node1.addresses;
    let within = format!("loadBalancerSourceRanges: [{}/32, '{}/128']", own.v4, own.v6);
    let outside = "loadBalancerSourceRanges: [203.0.113.0/24, '2001:db8:ffff::/48']".to_owned();
    for (ranges, expected) in
        [(outside, AttemptResult::Forbidden), (within, AttemptResult::Replied)]
    {
        let rules = Rules { is_balanced: true, spec: vec![&ranges], ..Rules::default() };
        fixture.manifests.offer_under(&offer, &rules)?;
        for family in Family::ALL {
            gets(lab, SocketAddr::new(offer.vips().of(family), Offer::PORT), expected)?;
        }
    }
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
fn sockets_of_pods_are_balanced_where_that_is_asked_for() -> Result<()> {
    for (balancing, by_socket) in [("host", false), ("all", true)] {
        let Some(fixture) = start_with(Shape::default(), &["--socket-balancing", balancing])?
        else {
            return Ok(());
        };
        let offer = ServedBy::AllPods.offer(&fixture.lab);
        let pod = &fixture.lab.node1.pods[0];
        let before = fixture.counted(Outcome::SocketConnected)?;
        for family in Family::ALL {
            let frontend = SocketAddr::new(offer.cluster_ips().of(family), Offer::PORT);
            for protocol in [Protocol::TCP, Protocol::UDP] {
                // No packet is translated, so a pod that reaches itself sees itself.
                let flow = Flow { origin: Origin::Pod(pod), frontend, protocol };
                until("another pod answers", CHANGE, || {
                    let response = flow.ask(&fixture.lab, 1000)?;
                    ensure!(response.pod != pod.name, "it is the pod itself");
                    ensure!(
                        response.client == response.own,
                        "{} saw {}",
                        response.pod,
                        response.client
                    );
                    Ok(())
                })?;
            }
        }
        let counted = fixture.counted(Outcome::SocketConnected)? - before;
        ensure!((counted > 0) == by_socket, "--socket-balancing {balancing}: {counted} sockets");
    }
    Ok(())
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

pub fn start(shape: Shape) -> Result<Option<Fixture>> {
    start_with(shape, &[])
}

fn start_with(shape: Shape, arguments: &[&str]) -> Result<Option<Fixture>> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(None);
    };
    if fixture.lab.node1.cgroup.is_none() {
        requires::skip("needs a cgroup v2 hierarchy: mount -t cgroup2 cgroup2 DIR");
        return Ok(None);
    }
    Ok(Some(fixture))
}

/// The frontends of `offer` for a process of node1, in both families.
fn frontends(lab: &Lab, offer: &Offer) -> Vec<SocketAddr> {
    Family::ALL.map(|family| of_family(lab, offer, family)).concat()
}

/// ClusterIP and node port.
pub fn of_family(lab: &Lab, offer: &Offer, family: Family) -> [SocketAddr; 2] {
    let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
    [cluster_ip, (lab.node1.addresses.of(family), offer.node_port()).into()]
}

/// The IPv4-mapped IPv6 address.
fn mapped(end: SocketAddr) -> Option<SocketAddr> {
    match end.ip() {
        IpAddr::V4(ip) => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), end.port())),
        IpAddr::V6(_) => None,
    }
}

/// A socket of node1 that can send to `end`.
fn udp_socket(lab: &Lab, end: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr =
        if end.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = lab.node1.namespace.run(|| Ok(UdpSocket::bind((any, 0))?))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// Sends a datagram to `end`; the source of the reply, as recvmsg(2) returns it.
fn asked(socket: &UdpSocket, end: SocketAddr) -> Result<SocketAddr> {
    socket.send_to(b"?", end)?;
    let (_, from) = socket.recv_from(&mut [0; 256]).with_context(|| format!("{end} is silent"))?;
    Ok(from)
}
