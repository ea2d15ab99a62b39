//! What Weir leaves to others: flows to a cluster IP that a device of the node has, where a socket listens, as NodeLocal
//! DNSCache does; and what `--skip` names.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::agent::weir;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Namespace, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{AttemptResult, Caller, Client, TcpServer, UdpServer, ask, attempt, get};
use weir_tests::wait::until;

/// What the node's own server calls itself.
const CACHE: &str = "cache";

#[test]
fn a_socket_at_a_cluster_ip_of_the_node_is_served_before_the_backends() -> Result<()> {
    for balancing in ["host", "all"] {
        comes_first(balancing).with_context(|| format!("--socket-balancing {balancing}"))?;
    }
    Ok(())
}

fn comes_first(balancing: &str) -> Result<()> {
    let arguments = ["--socket-balancing", balancing];
    let Some(fixture) = Fixture::start_with(Shape::default(), &arguments)? else {
        return Ok(());
    };
    let (lab, offer) = (&fixture.lab, ServedBy::LocalPods.offer(&fixture.lab));
    let node = &lab.node1.namespace;
    let pod = &lab.node1.pods[0].namespace;
    let frontends: Vec<SocketAddr> =
        Family::ALL.map(|family| (offer.cluster_ips().of(family), Offer::PORT).into()).into();
    let mut before = Vec::new();
    for frontend in &frontends {
        let mut client = Client::connect(pod, *frontend)?;
        client.exchange(1)?;
        before.push(client);
    }
    let [v4, v6] = [Family::V4, Family::V6].map(|family| offer.cluster_ips().of(family));
    node.ip(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo\n"))?;

    // An address alone takes nothing away.
    explained(&fixture, frontends[0])?;
    let each = |by_cache| answer(&fixture, &frontends, by_cache);
    each(false)?;

    let servers = frontends
        .iter()
        .map(|at| {
            Ok((TcpServer::start_at(node, CACHE, *at)?, UdpServer::start_at(node, CACHE, *at)?))
        })
        .collect::<Result<Vec<_>>>()?;
    each(true)?;
    ensure!(fixture.counted(Outcome::PassedLocalSocket)? > 0, "nothing is counted");
    let callers =
        frontends.iter().map(|at| Caller::connect(pod, *at)).collect::<Result<Vec<_>>>()?;
    for caller in &callers {
        ensure!(caller.exchange(1)?.pod == CACHE, "another one answers");
    }
    for client in &mut before {
        let response = client.exchange(1000).context("a connection from before")?;
        ensure!(response.pod != CACHE, "a connection from before moved");
    }
    drop(servers);
    each(false)?;
    // Nothing is left of what went to the cache, not even of a client that keeps its port.
    for caller in &callers {
        until("a backend answers", Duration::from_secs(10), || {
            let response = caller.exchange_within(Duration::from_millis(300), 1)?;
            ensure!(response.pod != CACHE, "the cache answers");
            Ok(())
        })?;
    }
    Ok(())
}

/// Checks that an operator who asks is reminded of sockets.
fn explained(fixture: &Fixture, frontend: SocketAddr) -> Result<()> {
    let node = &fixture.lab.node1;
    let pod = node.pods[0].addresses.v4.to_string();
    until("the agent has noticed the address", Duration::from_secs(10), || {
        let trace = weir(node, &["explain", &pod, &format!("{frontend}/tcp")])?;
        ensure!(trace.contains("assumed: no socket of this node listens"), "{trace}");
        Ok(())
    })
}

/// Waits until the cache answers at each frontend, or a backend: to a pod, and to a process of the node.
fn answer(fixture: &Fixture, frontends: &[SocketAddr], by_cache: bool) -> Result<()> {
    let node = &fixture.lab.node1;
    let of_host = node.cgroup.is_some().then_some(&node.namespace);
    for frontend in frontends {
        for from in [Some(&node.pods[0].namespace), of_host].into_iter().flatten() {
            until("the right one answers", Duration::from_secs(10), || {
                let names = [get(from, *frontend)?.pod, ask(from, *frontend, 1)?.pod];
                ensure!(names.iter().all(|name| (name == CACHE) == by_cache), "{names:?} answer");
                Ok(())
            })
            .with_context(|| format!("{frontend} from {}", from.name()))?;
        }
    }
    Ok(())
}

#[test]
fn what_is_to_be_skipped_is_not_translated_and_all_else_is() -> Result<()> {
    let skip = ["--skip", "default/local-pods,10.96.0.14"];
    let Some(fixture) = Fixture::start_with(Shape::default(), &skip)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let pod = &lab.node1.pods[0].namespace;
    let reaches = |from: &Namespace, address: IpAddr| {
        let second = Duration::from_millis(500);
        let result = attempt(from, (address, Offer::PORT).into(), Protocol::TCP, second);
        matches!(result, Ok(AttemptResult::Replied))
    };
    let of = |served: ServedBy, family| served.offer(lab).cluster_ips().of(family);
    for family in Family::ALL {
        ensure!(!reaches(pod, of(ServedBy::LocalPods, family)), "the Service is served");
        ensure!(reaches(pod, of(ServedBy::OnePod, family)), "another Service is not");
    }
    ensure!(!reaches(pod, of(ServedBy::AllPods, Family::V4)), "the address is served");
    ensure!(reaches(pod, of(ServedBy::AllPods, Family::V6)), "the other address is not");
    // Another proxy, or a socket, has them.
    let address = of(ServedBy::LocalPods, Family::V4);
    lab.node1.namespace.ip(&format!("addr add {address}/32 dev lo\n"))?;
    let at = (address, Offer::PORT).into();
    let _server = TcpServer::start_at(&lab.node1.namespace, CACHE, at)?;
    ensure!(get(pod, at)?.pod == CACHE, "a server of the node is not reached");
    Ok(())
}
