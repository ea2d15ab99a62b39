//! A client outside reaches a Service at a node's address and the Service's node port. A backend on
//! that node sees the client's own address; a remote one sees the node's, so that its replies return there.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Attachment, PodRouting, Shape};
use weir_tests::traffic::{Flow, Origin};

#[test]
fn node_ports_are_reached_over_routes() -> Result<()> {
    check(Shape::default(), &[])
}

#[test]
fn node_ports_are_reached_without_offloads() -> Result<()> {
    let shape = Shape { offloads: false, ..Shape::default() };
    check(shape, &[])
}

#[test]
fn node_ports_are_reached_over_bridges() -> Result<()> {
    let shape = Shape { attachment: Attachment::Bridged, ..Shape::default() };
    check(shape, &[])
}

#[test]
fn node_ports_are_reached_through_an_overlay() -> Result<()> {
    let shape = Shape { pod_routing: PodRouting::Overlay, ..Shape::default() };
    check(shape, &[])
}

#[test]
fn node_ports_are_reached_through_a_tunnel_without_ethernet_headers() -> Result<()> {
    let shape = Shape { pod_routing: PodRouting::Tun, ..Shape::default() };
    check(shape, &[])
}

#[test]
fn node_ports_are_reached_with_native_xdp_through_a_tunnel_without_ethernet_headers() -> Result<()>
{
    let shape = Shape {
        offloads: false,
        delivers_xdp_tx: true,
        pod_routing: PodRouting::Tun,
        ..Shape::default()
    };
    check_with_xdp(shape, "native", "mtu 1500 xdp ")
}

#[test]
fn node_ports_are_reached_without_xdp() -> Result<()> {
    check(Shape::default(), &["--xdp", "off"])
}

#[test]
fn node_ports_are_reached_with_generic_xdp() -> Result<()> {
    let shape = Shape { offloads: false, ..Shape::default() };
    check_with_xdp(shape, "generic", "mtu 1500 xdpgeneric ")
}

#[test]
fn node_ports_are_reached_with_native_xdp() -> Result<()> {
    let shape = Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() };
    check_with_xdp(shape, "native", "mtu 1500 xdp ")
}

#[test]
fn node_ports_are_reached_with_native_xdp_through_an_overlay() -> Result<()> {
    let shape = Shape {
        offloads: false,
        delivers_xdp_tx: true,
        pod_routing: PodRouting::Overlay,
        ..Shape::default()
    };
    check_with_xdp(shape, "native", "mtu 1500 xdp ")
}

#[test]
fn no_socket_of_the_node_has_a_node_port_and_one_that_takes_it_receives_nothing() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    every_node_port_answers(&fixture)?;
    let mut taken = Vec::new();
    for served in ServedBy::ALL {
        // Linux refuses the wildcard of both families if a socket has the port at any address of either.
        let all = (Ipv6Addr::UNSPECIFIED, served.offer(&fixture.lab).node_port());
        let bind = || Ok((TcpListener::bind(all)?, UdpSocket::bind(all)?));
        let sockets = fixture.lab.node1.namespace.run(bind);
        taken.push(sockets.with_context(|| format!("a socket has port {}", all.1))?);
    }
    every_node_port_answers(&fixture)?;
    for (listener, socket) in taken {
        listener.set_nonblocking(true)?;
        ensure!(listener.accept().is_err(), "a connection to a node port went to the node");
        socket.set_nonblocking(true)?;
        ensure!(socket.recv(&mut [0]).is_err(), "a datagram to a node port went to the node");
    }
    Ok(())
}

fn check(shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(());
    };
    every_node_port_answers(&fixture)
}

/// The same with XDP on the node's network device, of which `ip link` then says `words`.
fn check_with_xdp(shape: Shape, mode: &str, words: &str) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, &["--xdp", mode])? else {
        return Ok(());
    };
    let device = fixture.lab.node1.namespace.output("ip", &["link", "show", "eth0"])?;
    ensure!(device.contains(words), "eth0 has no {mode} XDP program: {device}");
    every_node_port_answers(&fixture)
}

fn every_node_port_answers(fixture: &Fixture) -> Result<()> {
    for served in ServedBy::ALL {
        let offer = served.offer(&fixture.lab);
        for family in Family::ALL {
            let frontend = (fixture.lab.node1.addresses.of(family), offer.node_port()).into();
            for (protocol, lengths) in LENGTHS {
                for &length in lengths {
                    let flow = Flow { origin: Origin::Outside, frontend, protocol };
                    let response = flow.send(&fixture.lab, length)?;
                    let allowed = offer.pods.iter().any(|pod| pod.name == response.pod);
                    ensure!(allowed, "{} serves {flow}", response.pod);
                }
            }
        }
    }
    Ok(())
}

/// Bytes to send: one, about a packet's worth, and for TCP a megabyte.
const LENGTHS: [(Protocol, &[usize]); 2] =
    [(Protocol::TCP, &[1, 1400, 1 << 20]), (Protocol::UDP, &[1, 1300])];
