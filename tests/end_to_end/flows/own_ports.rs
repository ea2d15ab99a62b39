//! Flows of the node and of masqueraded pods whose local port is a node port: their replies are theirs.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape, addresses};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{Client, ECHO_PORT, HTTP_PORT, Servers, TIMEOUT, ask, get};
use weir_tests::wait::until;

/// Long enough for the agent to take a changed manifest up.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn the_nodes_own_sockets_may_have_a_node_port() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _outside = Servers::start(&lab.client, "outside")?;
    for served in [ServedBy::LocalPods, ServedBy::RemotePods] {
        own_sockets_reach(lab, served.offer(lab).node_port()).context("a node port")?;
    }
    fixture.check_traffic()
}

#[test]
fn the_nodes_own_sockets_may_have_a_port_of_an_external_ip_that_is_the_nodes() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _outside = Servers::start(&lab.client, "outside")?;
    let own = lab.node1.addresses;
    let field = format!("externalIPs: ['{}', '{}']", own.v4, own.v6);
    for (number, served) in [(41, ServedBy::LocalPods), (42, ServedBy::RemotePods)] {
        let Offer { pods, .. } = served.offer(lab);
        let offer = Offer { name: "at-the-node", number, pods };
        let rules = Rules { spec: vec![&field], ..Rules::default() };
        fixture.manifests.offer_under(&offer, &rules)?;
        for family in Family::ALL {
            let frontend = SocketAddr::from((own.of(family), Offer::PORT));
            let served = || get(&lab.client, frontend).map(drop);
            until("the external IP is served", CHANGE, served)?;
        }
        own_sockets_reach(lab, Offer::PORT)?;
    }
    fixture.check_traffic()
}

/// Whether sockets of the node with this port reach servers outside, by TCP and UDP.
fn own_sockets_reach(lab: &Lab, port: u16) -> Result<()> {
    for family in Family::ALL {
        let own = SocketAddr::from((lab.node1.addresses.of(family), port));
        let outside = addresses::CLIENT.of(family);
        let mut client =
            Client::connect_from(&lab.node1.namespace, own, (outside, HTTP_PORT).into())
                .with_context(|| format!("TCP from {own}"))?;
        for _ in 0..3 {
            client.exchange(1000).with_context(|| format!("TCP from {own}"))?;
        }
        let socket = lab.node1.namespace.run(|| Ok(UdpSocket::bind(own)?))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        for _ in 0..3 {
            socket.send_to(b"own", (outside, ECHO_PORT))?;
            let (length, from) =
                socket.recv_from(&mut [0; 100]).with_context(|| format!("UDP from {own}"))?;
            ensure!(length > 3 && from.port() == ECHO_PORT, "{length} bytes from {from}");
        }
    }
    Ok(())
}

#[test]
fn a_masqueraded_pod_may_get_a_node_port() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _outside = Servers::start(&lab.client, "outside")?;
    let port = ServedBy::RemotePods.offer(lab).node_port().to_string();
    for family in Family::ALL {
        let outside = addresses::CLIENT.of(family);
        let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
        for protocol in ["tcp", "udp"] {
            let (to, via) = (outside.to_string(), ["-j", "MASQUERADE", "--to-ports", &port]);
            let rule = ["-t", "nat", "-A", "POSTROUTING", "-p", protocol, "-d", &to];
            lab.node1.namespace.output(program, &[&rule[..], &via].concat())?;
        }
        let pod = &lab.node1.pods[0].namespace;
        let seen = get(pod, (outside, HTTP_PORT).into()).context("TCP")?.client;
        ensure!(seen.port().to_string() == port, "seen as {seen}");
        let seen = ask(pod, (outside, ECHO_PORT).into(), 100).context("UDP")?.client;
        ensure!(seen.port().to_string() == port, "seen as {seen}");
    }
    fixture.check_traffic()
}
