//! An edit of the manifests moves new connections; established ones go on to their end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, Flow, Origin, converse};

#[test]
fn new_connections_follow_an_edit_and_old_ones_go_on() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = ServedBy::AllPods.offer(lab);
    let mut connections = Vec::new();
    for flow in flows(lab, &offer) {
        for _ in 0..10 {
            let mut client = Client::connect(flow.origin.namespace(lab), flow.frontend)?;
            let pod = client.exchange(1)?.pod;
            connections.push((client, pod));
        }
    }
    let only = &lab.node2.pods[1];
    offer.pods = vec![only];
    fixture.manifests.offer(&offer)?;
    for flow in flows(lab, &offer) {
        until_all_responses_are_from(&only.name, lab, &flow)?;
    }
    for (client, pod) in &mut connections {
        let response = client.exchange(100_000).context("an old connection was broken")?;
        ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
    }
    Ok(())
}

#[test]
fn udp_moves_once_its_pod_is_gone_from_the_service() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = ServedBy::OnePod.offer(lab);
    let next = &lab.node1.pods[1];
    let frontend = (offer.cluster_ips().of(Family::V4), Offer::PORT).into();
    let client = &lab.node1.pods[2].namespace;
    let moved = std::sync::atomic::AtomicBool::new(false);
    let tally = std::thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let done = || moved.load(std::sync::atomic::Ordering::Relaxed);
            converse(client, frontend, done)
        });
        offer.pods = vec![next];
        let edited = fixture.manifests.offer(&offer);
        let flow =
            Flow { origin: Origin::Pod(&lab.node1.pods[2]), frontend, protocol: Protocol::UDP };
        let seen = edited.and_then(|()| until_all_responses_are_from(&next.name, lab, &flow));
        moved.store(true, std::sync::atomic::Ordering::Relaxed);
        let tally = talking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen.and(tally)
    })?;
    ensure!(tally.lost() == 0, "datagrams were lost on the way: {tally:?}");
    ensure!(
        tally.responses.contains_key(&next.name),
        "one socket's datagrams stayed at the pod that had left: {tally:?}"
    );
    Ok(())
}

fn flows<'a>(lab: &'a Lab, offer: &Offer) -> Vec<Flow<'a>> {
    let flow = |origin, frontend| Flow { origin, frontend, protocol: Protocol::TCP };
    let of_family = |family| {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        [flow(Origin::Pod(&lab.node1.pods[0]), cluster_ip), flow(Origin::Outside, node_port)]
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}

/// Waits until twenty flows in a row are served by `pod`; each must be served.
fn until_all_responses_are_from(pod: &str, lab: &Lab, flow: &Flow) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let deadline = Instant::now() + TIMEOUT;
    let mut in_a_row = 0;
    while in_a_row < 20 {
        ensure!(
            Instant::now() < deadline,
            "{flow} is still served by others than {pod} after {TIMEOUT:?}"
        );
        let response = flow.send(lab, 1)?;
        in_a_row = if response.pod == pod { in_a_row + 1 } else { 0 };
    }
    Ok(())
}
