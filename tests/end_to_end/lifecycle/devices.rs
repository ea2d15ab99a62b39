//! Pods start and stop, and their devices come and go: Weir follows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin, Servers};

#[test]
fn a_pod_that_starts_later_reaches_services_and_serves_them() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    for _ in 0..3 {
        fixture.lab.start_pod()?;
        let pod = fixture.lab.node1.pods.last().context("no pod has started")?;
        let servers = Servers::start(&pod.namespace, &pod.name)?;
        let mut offer = ServedBy::OnePod.offer(&fixture.lab);
        offer.pods = vec![pod];
        fixture.manifests.offer(&offer)?;
        for client in [pod, &fixture.lab.node1.pods[0]] {
            for family in Family::ALL {
                let frontend = (offer.cluster_ips().of(family), Offer::PORT).into();
                let origin = Origin::Pod(client);
                let flow = Flow { origin, frontend, protocol: Protocol::TCP };
                until_served_by(&pod.name, &fixture, &flow)?;
            }
        }
        drop(servers);
        fixture.lab.stop_pod()?;
    }
    Ok(())
}

fn until_served_by(pod: &str, fixture: &Fixture, flow: &Flow) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match flow.send(&fixture.lab, 1) {
            Ok(response) if response.pod == pod => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < deadline => {}
            outcome => {
                outcome?;
                ensure!(false, "{flow} is not served by {pod} within {TIMEOUT:?}");
            }
        }
    }
}
