//! Node ports at 127.0.0.1 and `::1`: for processes of the node alone, where `--nodeport-addresses` names them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::Shape;
use weir_tests::traffic::{AttemptResult, Flow, Origin, TIMEOUT, attempt};

use super::host_processes::{AT_ONCE, asked, mapped, start, start_with, udp_socket};

#[test]
fn processes_of_the_node_reach_node_ports_at_localhost() -> Result<()> {
    for addresses in ["primary,localhost", "all"] {
        let Some(fixture) = start_with(Shape::default(), &["--nodeport-addresses", addresses])?
        else {
            return Ok(());
        };
        for served in ServedBy::ALL {
            for at in ends(&fixture, served) {
                is_served(&fixture, served, at)?;
                shows_the_frontend(&fixture, at)?;
            }
        }
        // Mixed with others, these are served, too.
        for family in Family::ALL {
            let offer = ServedBy::RemotePods.offer(&fixture.lab);
            let own = fixture.lab.node1.addresses.of(family);
            is_served(&fixture, ServedBy::RemotePods, (own, offer.node_port()).into())?;
        }
        fixture.check_traffic()?;
    }
    Ok(())
}

#[test]
fn node_ports_are_not_served_at_localhost_by_default() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    for at in ends(&fixture, ServedBy::AllPods) {
        let result = attempt(&fixture.lab.node1.namespace, at, Protocol::TCP, AT_ONCE)?;
        ensure!(result == AttemptResult::Refused, "{at}: {result:?}");
    }
    Ok(())
}

/// The node port of a Service of the fixture at the loopback address of each family.
fn ends(fixture: &Fixture, served: ServedBy) -> [SocketAddr; 2] {
    let port = served.offer(&fixture.lab).node_port();
    let at = |address: IpAddr| SocketAddr::new(address, port);
    [at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]
}

/// Checks that a process reaches the Service at `frontend`.
fn is_served(fixture: &Fixture, served: ServedBy, frontend: SocketAddr) -> Result<()> {
    let offer = served.offer(&fixture.lab);
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let flow = Flow { origin: Origin::Host, frontend, protocol };
        let response = flow.send(&fixture.lab, 1300)?;
        let allowed = offer.pods.iter().any(|pod| pod.name == response.pod);
        ensure!(allowed, "{} serves {flow}", response.pod);
    }
    Ok(())
}

/// Checks that getpeername(2) and recvmsg(2) return the frontend that the process connected to.
fn shows_the_frontend(fixture: &Fixture, at: SocketAddr) -> Result<()> {
    for to in [Some(at), mapped(at)].into_iter().flatten() {
        let connect = || Ok(TcpStream::connect_timeout(&to, TIMEOUT)?);
        let stream = fixture.lab.node1.namespace.run(connect)?;
        ensure!(stream.peer_addr()? == to, "{to}: {}", stream.peer_addr()?);
        let socket = udp_socket(&fixture.lab, to)?;
        ensure!(asked(&socket, to)? == to, "a reply not from {to}");
        socket.connect(to)?;
        ensure!(socket.peer_addr()? == to, "{to}: {}", socket.peer_addr()?);
    }
    Ok(())
}
