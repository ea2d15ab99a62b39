//! A client whose Service asks for session affinity keeps its backend: over connections, frontends
//! and restarts of the agent, until it has been away for too long or the backend has left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::agent::Agent;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Namespace, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{Client, get};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

/// Connections in a row that show whether a client keeps its backend:
/// of five backends, all of so many get the same one by chance once in 10^13 times.
const ENOUGH: usize = 20;

#[test]
fn a_client_keeps_its_backend_until_it_is_gone() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = ServedBy::AllPods.offer(lab);
    for family in Family::ALL {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        for (client, frontend) in
            [(&lab.node1.pods[0].namespace, cluster_ip), (&lab.client, node_port)]
        {
            // Off, at first and again at each turn.
            offer.pods = lab.pods().collect();
            fixture.manifests.offer(&offer)?;
            until_many(client, frontend)?;
            fixture.manifests.offer_under(&offer, &sticky(&["sessionAffinity: ClientIP"]))?;
            let kept = until_one(client, frontend)?;

            // The backend leaves: another is kept instead, and goes on being kept when it is back.
            offer.pods.retain(|pod| pod.name != kept);
            fixture.manifests.offer_under(&offer, &sticky(&["sessionAffinity: ClientIP"]))?;
            let next = until("another backend is kept", CHANGE, || {
                let next = until_one(client, frontend)?;
                ensure!(next != kept, "{kept} is gone and answers");
                Ok(next)
            })?;
            offer.pods = lab.pods().collect();
            fixture.manifests.offer_under(&offer, &sticky(&["sessionAffinity: ClientIP"]))?;
            ensure!(until_one(client, frontend)? == next, "{kept} came back and was chosen");
        }
    }
    Ok(())
}

#[test]
fn clients_that_were_away_for_too_long_may_get_other_backends() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = ServedBy::AllPods.offer(lab);
    fixture.manifests.offer_under(&offer, &sticky(&["sessionAffinity: ClientIP", SHORT]))?;
    // Ten of them, as one alone gets the backend it had one time in five.
    let own = |number: u8| SocketAddr::from(([198, 51, 100, 100 + number], 0));
    let clients: Vec<_> = (0..10).map(own).collect();
    for client in &clients {
        lab.client.ip(&format!("addr add {}/24 dev eth0", client.ip()))?;
    }
    let frontend = (lab.node1.addresses.of(Family::V4), offer.node_port()).into();
    let ask_all = || -> Result<Vec<String>> {
        let ask = |own: &SocketAddr| {
            Ok(Client::connect_from(&lab.client, *own, frontend)?.exchange(0)?.pod)
        };
        clients.iter().map(ask).collect()
    };
    until_one(&lab.client, frontend)?;

    // Each connection counts: those that go on asking keep what they have.
    let began = Instant::now();
    let kept = ask_all()?;
    while began.elapsed() < AWAY + TIMEOUT {
        let pods = ask_all()?;
        ensure!(pods == kept, "{pods:?} after {:?}, before {kept:?}", began.elapsed());
    }
    let left = Instant::now();
    until("the clients have been away", CHANGE, || {
        ensure!(left.elapsed() > AWAY, "{:?}", left.elapsed());
        Ok(())
    })?;
    let pods = ask_all()?;
    ensure!(pods != kept, "all got what they had before: {kept:?}");
    Ok(())
}

#[test]
fn a_client_keeps_its_backend_while_the_agent_restarts() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    let lab = &fixture.lab;
    let offer = ServedBy::AllPods.offer(lab);
    fixture.manifests.offer_under(&offer, &sticky(&["sessionAffinity: ClientIP"]))?;
    let frontend = |family| SocketAddr::from((offer.cluster_ips().of(family), Offer::PORT));
    let client = &lab.node1.pods[0].namespace;
    let [v4, v6] = Family::ALL.map(frontend);
    let kept = [until_one(client, v4)?, until_one(client, v6)?];
    agent.end(Signal::SIGKILL)?;
    let _agent = Agent::start(&lab.node1, &fixture.manifests, &[])?;
    let still = [until_one(client, v4)?, until_one(client, v6)?];
    ensure!(still == kept, "{kept:?} before the agent's restart, {still:?} after it");
    Ok(())
}

/// The time-out of clients that are to be away for longer, how the Service says it, and how long
/// clients have to be away: the datapath's clock goes by ticks of 1.07 s, and more than one of them
/// must have passed.
const TIMEOUT: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_millis(2200);
const SHORT: &str = "sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}";

fn sticky<'a>(spec: &[&'a str]) -> Rules<'a> {
    Rules { spec: spec.to_vec(), ..Rules::default() }
}

/// Waits until the client gets the same backend as often as is enough, and returns it.
fn until_one(client: &Namespace, frontend: SocketAddr) -> Result<String> {
    until("one backend alone serves", CHANGE, || {
        let pods = pods(client, frontend)?;
        let Some(pod) = pods.first().filter(|_| pods.len() == 1) else {
            bail!("{pods:?} answer {} at {frontend}", client.name());
        };
        Ok(pod.clone())
    })
}

/// Waits until several backends serve the client.
fn until_many(client: &Namespace, frontend: SocketAddr) -> Result<()> {
    until("several backends serve", CHANGE, || {
        let pods = pods(client, frontend)?;
        ensure!(pods.len() > 1, "{pods:?} answer {} at {frontend}", client.name());
        Ok(())
    })
}

fn pods(client: &Namespace, frontend: SocketAddr) -> Result<BTreeSet<String>> {
    (0..ENOUGH).map(|_| Ok(get(client, frontend)?.pod)).collect()
}
