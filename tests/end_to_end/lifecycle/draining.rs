//! Terminating pods keep their established connections, and where all pods are terminating, new
//! connections still get them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Namespace, Pod, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{Client, get};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn terminating_pods_finish_their_connections() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let old = vec![&lab.node1.pods[0], &lab.node2.pods[0]];
    let new = vec![&lab.node1.pods[1], &lab.node2.pods[1]];
    let offer = Offer { name: "draining", number: 38, pods: old.clone() };
    fixture.add(&offer)?;
    let mut connections = Vec::new();
    for (client, frontend) in clients(lab, &offer) {
        for _ in 0..5 {
            let mut connection = Client::connect(client, frontend)?;
            let pod = connection.exchange(1)?.pod;
            connections.push((connection, pod));
        }
    }

    // All of them are terminating, and there are no others: they still get new connections.
    let all_leave = Rules { leaving: old.clone(), ..Rules::default() };
    fixture.manifests.offer_under(&offer, &all_leave)?;
    until("the agent follows", CHANGE, || {
        let shown = weir_tests::agent::weir(&lab.node1, &["show", "backends", "-o", "wide"])?;
        ensure!(shown.contains("draining"), "{shown}");
        Ok(())
    })?;
    new_connections_reach(&old, lab, &offer)?;

    // Others come: those get every new connection, and no established one.
    let offer = Offer { pods: [old, new.clone()].concat(), ..offer };
    fixture.manifests.offer_under(&offer, &all_leave)?;
    new_connections_reach(&new, lab, &offer)?;
    for (connection, pod) in &mut connections {
        let response = connection.exchange(100_000).context("a connection was broken")?;
        ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
    }

    // And they are removed: established connections still go on.
    let offer = Offer { pods: new.clone(), ..offer };
    fixture.manifests.offer(&offer)?;
    new_connections_reach(&new, lab, &offer)?;
    for (connection, pod) in &mut connections {
        let response = connection.exchange(100_000).context("a connection was broken")?;
        ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
    }
    Ok(())
}

/// Waits until new connections are served by `pods` alone; every one is served.
fn new_connections_reach(pods: &[&Pod], lab: &Lab, offer: &Offer) -> Result<()> {
    let expected: BTreeSet<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    for (client, frontend) in clients(lab, offer) {
        until("new connections reach the right pods", CHANGE, || {
            let ask = |_| Ok(get(client, frontend)?.pod);
            let responded = (0..20).map(ask).collect::<Result<BTreeSet<_>>>()?;
            ensure!(responded == expected, "{responded:?} instead of {expected:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn clients<'a>(lab: &'a Lab, offer: &Offer) -> Vec<(&'a Namespace, SocketAddr)> {
    let of_family = |family| {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        [(&lab.node1.pods[2].namespace, cluster_ip), (&lab.client, node_port)]
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}
