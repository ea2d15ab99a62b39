//! Processes of the node itself reach Services as pods do: their sockets get a backend at connect(2) or
//! sendmsg(2), and getpeername(2) and recvmsg(2) return the frontend.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Attachment, Lab, PodRouting, Shape};
use weir_tests::manifests::Offer;
use weir_tests::requires;
use weir_tests::traffic::{Flow, Origin, TIMEOUT};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
pub const CHANGE: Duration = Duration::from_secs(10);

/// How long a call may take that fails without any packet.
pub const AT_ONCE: Duration = Duration::from_millis(500);

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

pub fn start(shape: Shape) -> Result<Option<Fixture>> {
    start_with(shape, &[])
}

pub fn start_with(shape: Shape, arguments: &[&str]) -> Result<Option<Fixture>> {
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
pub fn frontends(lab: &Lab, offer: &Offer) -> Vec<SocketAddr> {
    Family::ALL.map(|family| of_family(lab, offer, family)).concat()
}

/// ClusterIP and node port.
pub fn of_family(lab: &Lab, offer: &Offer, family: Family) -> [SocketAddr; 2] {
    let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
    [cluster_ip, (lab.node1.addresses.of(family), offer.node_port()).into()]
}

/// The IPv4-mapped IPv6 address.
pub fn mapped(end: SocketAddr) -> Option<SocketAddr> {
    match end.ip() {
        IpAddr::V4(ip) => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), end.port())),
        IpAddr::V6(_) => None,
    }
}

/// A socket of node1 that can send to `end`.
pub fn udp_socket(lab: &Lab, end: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr =
        if end.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = lab.node1.namespace.run(|| Ok(UdpSocket::bind((any, 0))?))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// A socket of node1 that is connected to `end`.
pub fn connected(lab: &Lab, end: SocketAddr) -> Result<UdpSocket> {
    let socket = udp_socket(lab, end)?;
    socket.connect(end).with_context(|| format!("cannot connect to {end}"))?;
    Ok(socket)
}

/// Sends a datagram to `end`; the source of the reply, as recvmsg(2) returns it.
pub fn asked(socket: &UdpSocket, end: SocketAddr) -> Result<SocketAddr> {
    socket.send_to(b"?", end)?;
    let (_, from) = socket.recv_from(&mut [0; 256]).with_context(|| format!("{end} is silent"))?;
    Ok(from)
}
