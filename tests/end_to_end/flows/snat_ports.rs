//! Source ports for SNAT: there are always some, and a flow finds the last one as it finds the first.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Namespace, Shape, addresses};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{AttemptResult, Client, HTTP_PORT, Servers, attempt, get};
use weir_tests::wait::until;

/// Long enough for the agent to read the node's settings again, which it does every ten seconds.
const REREAD: Duration = Duration::from_secs(30);

/// Connections at once to one backend: nearly all ports that there are.
const CONNECTIONS: u16 = 60_000;

/// The client's ports begin here.
const FIRST_CLIENT_PORT: u16 = 2000;

#[test]
fn clients_outside_are_served_where_sockets_may_have_all_ports() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    for (range, beyond) in [("32768 60999", 32_768), ("1024 65535", 0), ("1024 64000", 1024)] {
        fixture.lab.node1.namespace.set(&[("net/ipv4/ip_local_port_range", range)])?;
        until("the agent has read the setting", REREAD, || {
            let now = fixture.count("weir_snat_ports_beyond_sockets")?;
            ensure!(now == beyond, "{now} ports beyond {range}");
            Ok(())
        })?;
        ensure!(fixture.count("weir_snat_ports")? >= 16_384, "too few ports with {range}");
        let offer = ServedBy::RemotePods.offer(&fixture.lab);
        for family in Family::ALL {
            let frontend = (fixture.lab.node1.addresses.of(family), offer.node_port()).into();
            for _ in 0..20 {
                get(&fixture.lab.client, frontend).with_context(|| format!("ports {range}"))?;
            }
        }
    }
    ensure!(fixture.counted(Outcome::DroppedNoSnatPort)? == 0, "a flow found no port");
    Ok(())
}

#[test]
fn ports_that_are_reserved_for_servers_are_taken_for_no_flow() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    lab.node1.namespace.set(&[
        ("net/ipv4/ip_local_reserved_ports", "1024-16383,52000-52010"),
        ("net/ipv4/ip_local_port_range", "50000 60999"),
    ])?;
    until("the agent has read the settings", REREAD, || {
        let now = fixture.count("weir_snat_ports_beyond_sockets")?;
        // Of 63 spans of 1024 ports twelve have sockets' ports, three node ports, fifteen those reserved.
        ensure!(now == 33 * 1024, "{now} ports beyond sockets' and servers'");
        Ok(())
    })?;
    let offer = ServedBy::RemotePods.offer(lab);
    for family in Family::ALL {
        let frontend = SocketAddr::from((lab.node1.addresses.of(family), offer.node_port()));
        flows_have_no_port_of(&lab.client, frontend, 0..=16_383)?;
    }
    ensure!(fixture.counted(Outcome::DroppedNoSnatPort)? == 0, "a flow found no port");
    Ok(())
}

#[test]
fn node_ports_of_another_range_are_taken_for_no_flow() -> Result<()> {
    const NODE_PORT: u16 = 20_480;
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "other-range", number: 40, pods: lab.node2.pods.iter().collect() };
    let [usual, other] = [offer.node_port(), NODE_PORT].map(|port| format!("nodePort: {port}"));
    fixture.manifests.write("other-range.yaml", &offer.yaml().replace(&usual, &other))?;
    let own = &lab.node1.namespace;
    own.set(&[("net/ipv4/ip_local_port_range", "50000 60999")])?;
    until("ports near node ports are left out", REREAD, || {
        let now = fixture.count("weir_snat_ports_beyond_sockets")?;
        // Of 63 spans of 1024 ports twelve have sockets' ports, and twelve those from 20,480 to 32,767.
        ensure!(now == 39 * 1024, "{now} ports beyond sockets'");
        Ok(())
    })?;
    let _outside = Servers::start(&lab.client, "outside")?;
    for family in Family::ALL {
        let frontend = SocketAddr::from((lab.node1.addresses.of(family), NODE_PORT));
        flows_have_no_port_of(&lab.client, frontend, NODE_PORT..=32_767)?;
        let outside = (addresses::CLIENT.of(family), HTTP_PORT).into();
        let mut client = Client::connect_from(own, frontend, outside)?;
        client.exchange(1000).with_context(|| format!("a socket of the node at {frontend}"))?;
    }
    Ok(())
}

/// Whether flows have other source ports than these, once the datapath knows what the agent has read.
fn flows_have_no_port_of(
    client: &Namespace,
    frontend: SocketAddr,
    ports: RangeInclusive<u16>,
) -> Result<()> {
    until("flows have other ports", REREAD, || {
        for _ in 0..50 {
            let seen = get(client, frontend)?.client;
            ensure!(!ports.contains(&seen.port()), "seen as {seen}");
        }
        Ok(())
    })
}

#[test]
fn sixty_thousand_connections_from_outside_to_one_backend_of_another_node() -> Result<()> {
    sixty_thousand_connections(Family::V4)
}

#[test]
fn sixty_thousand_connections_from_outside_by_ipv6() -> Result<()> {
    sixty_thousand_connections(Family::V6)
}

fn sixty_thousand_connections(family: Family) -> Result<()> {
    let size = ["--conntrack-table-size", "262144"];
    let Some(mut fixture) = Fixture::start_with(Shape::default(), &size)? else {
        return Ok(());
    };
    fixture.servers.clear();
    let (pod, client) = (&fixture.lab.node2.pods[0], &fixture.lab.client);
    let offer = Offer { name: "crowded", number: 16, pods: vec![pod] };
    let listener = patient_listener(&pod.namespace)?;
    client.set(&[("net/ipv4/ip_local_port_range", "62500 65000")])?;
    fixture.manifests.offer(&offer)?;
    let frontend = (fixture.lab.node1.addresses.of(family), offer.node_port()).into();
    until("the Service is served", REREAD, || {
        attempt(client, frontend, Protocol::TCP, Duration::from_secs(1)).and_then(|result| {
            ensure!(result == AttemptResult::Replied, "{result:?}");
            Ok(())
        })
    })?;
    accept(&listener, 1)?;
    connect(client, frontend, CONNECTIONS)?;
    let seen = accept(&listener, CONNECTIONS)?;
    ensure!(seen.len() == usize::from(CONNECTIONS), "the backend saw {} ports", seen.len());
    ensure!(fixture.counted(Outcome::DroppedNoSnatPort)? == 0, "a flow found no port at first");
    until("the agent has counted them", REREAD, || {
        let ports = fixture.count("weir_snat_ports_busiest_backend")?;
        ensure!(ports >= u64::from(CONNECTIONS), "{ports} ports counted");
        Ok(())
    })
}

/// A server of `namespace` that keeps connections until they are accepted, however many.
fn patient_listener(namespace: &Namespace) -> Result<TcpListener> {
    namespace.set(&[("net/core/somaxconn", "65535"), ("net/ipv4/tcp_syncookies", "0")])?;
    let bind = || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, HTTP_PORT))?);
    let listener = namespace.run(bind).context("listen")?;
    listen(&listener, Backlog::MAXALLOWABLE)?;
    Ok(listener)
}

/// Opens so many connections, which stay open without a socket: a process may not have that many.
fn connect(from: &Namespace, to: SocketAddr, count: u16) -> Result<()> {
    from.run(|| {
        for port in FIRST_CLIENT_PORT..FIRST_CLIENT_PORT + count {
            let (family, own) = match to {
                SocketAddr::V4(_) => (AddressFamily::Inet, Ipv4Addr::UNSPECIFIED.into()),
                SocketAddr::V6(_) => (AddressFamily::Inet6, Ipv6Addr::UNSPECIFIED.into()),
            };
            let client = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // On Linux the time-out for sending is the one for connecting too.
            setsockopt(&client, sockopt::SendTimeout, &TimeVal::seconds(10))?;
            let own = SockaddrStorage::from(SocketAddr::new(own, port));
            bind(client.as_raw_fd(), &own).context("bind")?;
            nix::sys::socket::connect(client.as_raw_fd(), &SockaddrStorage::from(to))
                .with_context(|| format!("from port {port}"))?;
            // A socket that is under repair goes without a word.
            setsockopt(&client, sockopt::TcpRepair, &1)?;
        }
        Ok(())
    })
}

/// Accepts so many connections and ends them; returns the clients that it saw.
fn accept(listener: &TcpListener, count: u16) -> Result<BTreeSet<SocketAddr>> {
    (0..count).map(|_| Ok(listener.accept()?.1)).collect()
}
