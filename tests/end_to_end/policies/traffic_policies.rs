//! Traffic policies on two nodes, each with an agent: which client gets which pods, and what address those
//! see.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::agent::Agent;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Namespace, Pod, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, Response, attempt, get};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

/// How long there must be no reply for packets to be dropped.
const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn external_policy_local_keeps_clients_addresses_and_stays_on_the_node() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _other = Agent::start(&lab.node2, &fixture.manifests, &[])?;
    let offer = Offer { name: "local", number: 41, pods: lab.pods().collect() };
    let spec = vec!["externalTrafficPolicy: Local"];
    let rules = Rules { is_balanced: true, spec, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    let all: Vec<&Pod> = lab.pods().collect();
    for family in Family::ALL {
        let vip = (offer.vips().of(family), Offer::PORT).into();
        for node in [&lab.node1, &lab.node2] {
            let node_port = (node.addresses.of(family), offer.node_port()).into();
            sees_own(&lab.client, node_port, &node.pods.iter().collect::<Vec<_>>())?;
            // Pods get all endpoints, by the short-circuit, at their own node's port and at the VIP.
            let pod = &node.pods[1].namespace;
            sees_own(pod, vip, &all)?;
            sees_own(pod, node_port, &all)?;
            // The policy is not about the cluster's own traffic.
            sees_own(pod, (offer.cluster_ips().of(family), Offer::PORT).into(), &all)?;
        }
        // The network sends VIPs to node1.
        sees_own(&lab.client, vip, &lab.node1.pods.iter().collect::<Vec<_>>())?;
    }
    Ok(())
}

#[test]
fn external_policy_cluster_gets_all_endpoints_at_every_node() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _other = Agent::start(&lab.node2, &fixture.manifests, &[])?;
    let offer = Offer { name: "cluster", number: 42, pods: lab.pods().collect() };
    fixture.manifests.offer_under(&offer, &Rules { is_balanced: true, ..Rules::default() })?;
    let all: Vec<&Pod> = lab.pods().collect();
    for family in Family::ALL {
        for (node, frontend) in [
            (&lab.node1, (lab.node1.addresses.of(family), offer.node_port())),
            (&lab.node2, (lab.node2.addresses.of(family), offer.node_port())),
            (&lab.node1, (offer.vips().of(family), Offer::PORT)),
        ] {
            let check = |response: &Response| {
                let is_local = node.pods.iter().any(|pod| pod.name == response.pod);
                let (seen, own) = (response.client, response.own);
                let fits = if is_local { seen == own } else { node.owns(seen.ip()) };
                ensure!(fits, "{} at {} saw {seen} for {own}", response.pod, node.name);
                Ok(())
            };
            reaches(&lab.client, frontend.into(), &all, check)?;
        }
    }
    Ok(())
}

#[test]
fn internal_policy_local_stays_on_the_node() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let _other = Agent::start(&lab.node2, &fixture.manifests, &[])?;
    let spec = vec!["internalTrafficPolicy: Local"];
    let rules = Rules { spec, ..Rules::default() };
    let offer = Offer { name: "inside", number: 43, pods: lab.pods().collect() };
    fixture.manifests.offer_under(&offer, &rules)?;
    let remote = Offer { name: "remote", number: 44, pods: lab.node2.pods.iter().collect() };
    fixture.manifests.offer_under(&remote, &rules)?;
    for family in Family::ALL {
        for node in [&lab.node1, &lab.node2] {
            let own: Vec<_> = node.pods.iter().collect();
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            // A pod that reaches itself sees another address.
            reaches(&node.pods[1].namespace, cluster_ip, &own, |_| Ok(()))?;
        }
        // Clients outside are not affected.
        let node_port = (lab.node1.addresses.of(family), remote.node_port()).into();
        reaches(&lab.client, node_port, &remote.pods, |_| Ok(()))?;
        let cluster_ip = (remote.cluster_ips().of(family), Offer::PORT).into();
        let result = attempt(&lab.node1.pods[1].namespace, cluster_ip, Protocol::TCP, SILENCE)?;
        ensure!(result == AttemptResult::NoReply, "{cluster_ip} without a local pod: {result:?}");
        reaches(&lab.node2.pods[1].namespace, cluster_ip, &remote.pods, |_| Ok(()))?;
    }
    Ok(())
}

/// Waits until exactly `pods` serve the client, and checks that each sees the client's own address,
/// unless it is the client.
fn sees_own(client: &Namespace, frontend: SocketAddr, pods: &[&Pod]) -> Result<()> {
    let check = |response: &Response| {
        let is_itself = pods
            .iter()
            .any(|pod| pod.name == response.pod && pod.namespace.name() == client.name());
        let (seen, own) = (response.client, response.own);
        ensure!(is_itself || seen == own, "{} saw {seen} for {own}", response.pod);
        Ok(())
    };
    reaches(client, frontend, pods, check)
}

/// Waits until exactly `pods` serve the client, and checks every response.
fn reaches(
    client: &Namespace,
    frontend: SocketAddr,
    pods: &[&Pod],
    check: impl Fn(&Response) -> Result<()>,
) -> Result<()> {
    let expected: BTreeSet<_> = pods.iter().map(|pod| pod.name.clone()).collect();
    until("the right pods serve", CHANGE, || {
        let mut responded = BTreeSet::new();
        for _ in 0..40 {
            let response = get(client, frontend)?;
            check(&response)?;
            responded.insert(response.pod);
        }
        ensure!(responded == expected, "{responded:?} instead of {expected:?}");
        Ok(())
    })
    .with_context(|| format!("{} to {frontend}", client.name()))
}
