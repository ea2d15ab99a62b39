//! A Service is deleted: its established connections go on to their end, over a restart of the agent too.
//! What is kept for them in the maps goes with them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, binary, weir};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Namespace, Shape};
use weir_tests::manifests::{Manifests, Offer};
use weir_tests::traffic::Client;
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);
/// How long two collections of garbage may take, which begin every ten seconds.
const TWO_COLLECTIONS: Duration = Duration::from_secs(40);
/// How long a closed connection is kept, and after it what was kept for it.
const CLOSED: Duration = Duration::from_secs(90);

#[test]
fn connections_outlive_their_service_and_a_restart_of_the_agent() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    fixture.agent = None;
    let lab = &fixture.lab;
    let agent = start_agent(lab, &fixture.manifests)?;
    let offer = Offer { name: "removed", number: 45, pods: vec![&lab.node2.pods[0]] };
    fixture.add(&offer)?;
    let connect = |(client, frontend): (&Namespace, _)| Client::connect(client, frontend);
    let mut connections: Vec<_> = clients(lab, &offer).map(connect).collect::<Result<_>>()?;
    go_on(&mut connections)?;
    fixture.manifests.remove("removed.yaml")?;
    until("the agent follows", CHANGE, || {
        let shown = weir(&lab.node1, &["show", "frontends"])?;
        ensure!(!shown.contains("removed"), "{shown}");
        Ok(())
    })?;
    collects_garbage_twice(&agent)?;
    go_on(&mut connections).context("the Service is deleted")?;
    agent.end(Signal::SIGTERM)?;
    let agent = start_agent(lab, &fixture.manifests)?;
    collects_garbage_twice(&agent)?;
    go_on(&mut connections).context("the Service is deleted, and the agent started again")?;
    for (_, frontend) in clients(lab, &offer) {
        ensure!(passes_filter(lab, frontend)?, "{frontend} has connections");
    }
    drop(connections);
    for (_, frontend) in clients(lab, &offer) {
        until("the filter forgets what has no connections", CLOSED, || {
            ensure!(!passes_filter(lab, frontend)?, "{frontend}\n{}", agent.log());
            Ok(())
        })?;
    }
    Ok(())
}

/// An agent that logs when it has collected garbage.
fn start_agent(lab: &Lab, manifests: &Manifests) -> Result<Agent> {
    let mut weir = lab.node1.namespace.command(binary()?)?;
    weir.env("WEIR_LOG", "debug");
    Agent::start_command(weir, &lab.node1, manifests, &[])
}

/// A pod and the client outside, with the frontends they use.
fn clients<'a>(
    lab: &'a Lab,
    offer: &Offer,
) -> impl Iterator<Item = (&'a Namespace, SocketAddr)> + use<'a> {
    let (cluster_ips, node_port) = (offer.cluster_ips(), offer.node_port());
    Family::ALL.into_iter().flat_map(move |family| {
        let cluster_ip = (cluster_ips.of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), node_port).into();
        [(&lab.node1.pods[1].namespace, cluster_ip), (&lab.client, node_port)]
    })
}

fn go_on(connections: &mut [Client]) -> Result<()> {
    for connection in connections {
        connection.exchange(100_000).context("a connection was broken")?;
    }
    Ok(())
}

/// Waits for two collections: the first may have been under way.
fn collects_garbage_twice(agent: &Agent) -> Result<()> {
    let collections = || agent.lines("conntrack collected").len();
    let before = collections();
    until("garbage is collected twice", TWO_COLLECTIONS, || {
        ensure!(collections() >= before + 2, "{}", agent.log());
        Ok(())
    })
}

/// Whether a packet to `frontend` would be looked up in the tables of flows.
fn passes_filter(lab: &Lab, frontend: SocketAddr) -> Result<bool> {
    let pod = lab.node1.pods[1].addresses.of(Family::of(&frontend.ip())).to_string();
    let trace = weir(&lab.node1, &["explain", &pod, &format!("{frontend}/tcp"), "--from", "pod"])?;
    let mut lines = trace.lines().filter(|line| line.trim_start().starts_with("filter "));
    let line = lines.find(|line| line.contains(&frontend.to_string()));
    let line = line.with_context(|| format!("no step about {frontend} in:\n{trace}"))?;
    Ok(line.ends_with(": match"))
}
