//! ICMP errors about datagrams to a backend (TTL expired, port unreachable) reach their sender as errors
//! about the frontend: so traceroute sees every hop.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::addresses::CLIENT_GATEWAY;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{ECHO_PORT, Hop, Origin, traceroute};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn every_hop_up_to_the_backend_is_seen() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    for family in Family::ALL {
        let [router, node1, node2] = [CLIENT_GATEWAY, lab.node1.addresses, lab.node2.addresses]
            .map(|router| Hop::Expired(router.of(family)));
        for served in [ServedBy::OnePod, ServedBy::RemotePods] {
            let offer = served.offer(lab);
            let [pod, outside] = origins(lab, &offer, family);
            let host = lab.node1.cgroup.is_some().then_some((Origin::Host, pod.1));
            for (origin, frontend) in [pod, outside].into_iter().chain(host) {
                // Where the node masquerades, ICMP errors from beyond it come from the frontend's
                // address.
                let expected = match (origin, served) {
                    (Origin::Outside, ServedBy::OnePod) => vec![router, node1],
                    (Origin::Outside, _) => vec![router, node1, Hop::Expired(frontend.ip())],
                    (Origin::Pod(_) | Origin::Host, ServedBy::OnePod) => vec![],
                    (Origin::Pod(_) | Origin::Host, _) => vec![node2],
                };
                let expected = [expected, vec![Hop::Replied]].concat();
                let hops = traceroute(origin.namespace(lab), frontend)?;
                // The first hop of a pod is its node, which has many addresses.
                let skipped = usize::from(matches!(origin, Origin::Pod(_)));
                ensure!(
                    hops[skipped..] == expected,
                    "from {} to {frontend}: {hops:?}, expected {expected:?} at its end",
                    origin.namespace(lab).name()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_closed_port_of_a_backend_is_reported_as_the_frontends() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    for served in [ServedBy::OnePod, ServedBy::RemotePods] {
        let offer = served.offer(lab);
        // Where nobody listens.
        let yaml = offer.yaml().replace(&ECHO_PORT.to_string(), "7999");
        fixture.manifests.write(&format!("{}.yaml", offer.name), &yaml)?;
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                until("the closed port is reported as the frontend's", CHANGE, || {
                    let hops = traceroute(origin.namespace(lab), frontend)?;
                    let end = hops.last().context("no hop at all")?;
                    ensure!(
                        *end == Hop::Unreachable(frontend.ip()),
                        "from {} to {frontend}: {hops:?}",
                        origin.namespace(lab).name()
                    );
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

/// A pod with the ClusterIP, the client outside with the node port.
fn origins<'a>(lab: &'a Lab, offer: &Offer, family: Family) -> [(Origin<'a>, SocketAddr); 2] {
    let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
    let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
    [(Origin::Pod(&lab.node1.pods[1]), cluster_ip), (Origin::Outside, node_port)]
}
