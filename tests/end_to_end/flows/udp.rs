//! A UDP socket that is used for long reaches the backend that its Service has now: also if there was
//! none when it sent its first datagram, and again after a time without any.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Pod, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::Caller;
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

/// How long a reply may take.
const REPLY: Duration = Duration::from_millis(300);

#[test]
fn one_socket_reaches_the_current_backend() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "moving", number: 37, pods: Vec::new() };
    let mut callers = Vec::new();
    for family in Family::ALL {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let vip = (offer.vips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        for (client, frontend) in [
            (&lab.node1.pods[2].namespace, cluster_ip),
            (&lab.node1.pods[2].namespace, vip),
            (&lab.client, vip),
            (&lab.client, node_port),
        ] {
            callers.push(Caller::connect(client, frontend)?);
        }
    }
    // Before there is a Service at all, its first datagram goes where routes lead.
    for caller in &callers {
        ensure!(caller.exchange_within(REPLY, 1).is_err(), "there is a reply without a Service");
    }
    let (local, remote) = (&lab.node1.pods[0], &lab.node2.pods[0]);
    let none: Option<&Pod> = None;
    // No pod, a local one, a remote one, none again, and the local one.
    for serves in [none, Some(local), Some(remote), none, Some(local)] {
        offer.pods = serves.into_iter().collect();
        let rules = Rules { is_balanced: true, ..Rules::default() };
        fixture.manifests.offer_under(&offer, &rules)?;
        for caller in &callers {
            until("the flow has moved", CHANGE, || moved(caller, serves))?;
        }
    }
    Ok(())
}

/// Checks that a datagram is echoed by `pod`, or refused if there is none.
fn moved(caller: &Caller, pod: Option<&Pod>) -> Result<()> {
    match (caller.exchange_within(REPLY, 1), pod) {
        (Ok(response), Some(pod)) => {
            ensure!(response.pod == pod.name, "{} replied instead of {}", response.pod, pod.name);
        }
        (Ok(response), None) => anyhow::bail!("{} replied, which serves no longer", response.pod),
        (Err(error), Some(_)) => return Err(error),
        (Err(error), None) => {
            let cause = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            ensure!(cause == Some(std::io::ErrorKind::ConnectionRefused), "{error:#}");
        }
    }
    Ok(())
}
