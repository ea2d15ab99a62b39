//! Many connections at once: each is served, by a pod that serves the Service, and all pods get
//! their share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, Flow, Origin};

#[test]
fn two_hundred_connections_from_a_pod_at_once() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let origin = Origin::Pod(&fixture.lab.node1.pods[1]);
    check(&fixture, origin, |family| (offer.cluster_ips().of(family), Offer::PORT).into())
}

#[test]
fn two_hundred_connections_from_outside_at_once() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    check(&fixture, Origin::Outside, |family| {
        (fixture.lab.node1.addresses.of(family), offer.node_port()).into()
    })
}

const CONNECTIONS: usize = 200;

fn check(fixture: &Fixture, origin: Origin, frontend: impl Fn(Family) -> SocketAddr) -> Result<()> {
    for family in Family::ALL {
        let flow = Flow { origin, frontend: frontend(family), protocol: Protocol::TCP };
        let shares = talk_all_at_once(fixture, &flow)?;
        let fair = CONNECTIONS / fixture.lab.pods().count();
        for pod in fixture.lab.pods() {
            let share = shares.get(&pod.name).copied().unwrap_or(0);
            // A third of the fair share is some six standard deviations away.
            ensure!(share > fair / 3, "{} got {share} of {CONNECTIONS}: {shares:?}", pod.name);
        }
    }
    Ok(())
}

/// Opens all connections, then talks on each while all are open; returns how many each pod got.
fn talk_all_at_once(fixture: &Fixture, flow: &Flow) -> Result<BTreeMap<String, usize>> {
    let namespace = flow.origin.namespace(&fixture.lab);
    let clients = namespace.run(|| {
        let connect = |_| Client::connect_here(flow.frontend);
        (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()
    })?;
    let responses = thread::scope(|scope| {
        let talk = |mut client: Client| {
            scope.spawn(move || {
                client.exchange(10_000)?;
                client.exchange(1)
            })
        };
        let talks: Vec<_> = clients.into_iter().map(talk).collect();
        let joined = talks.into_iter().map(|talk| talk.join());
        joined
            .map(|response| response.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut shares = BTreeMap::new();
    for response in responses {
        flow.check_client(&fixture.lab, &response)?;
        *shares.entry(response.pod).or_default() += 1;
    }
    Ok(shares)
}
