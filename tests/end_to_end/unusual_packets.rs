//! What few packets are arrives as others do: datagrams in fragments, those whose time runs out on
//! the way, and those that nobody at the backend waits for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::lab::addresses::CLIENT_GATEWAY;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;
use weir_tests::stage::{Served, Stage};
use weir_tests::traffic::{ECHO_PORT, Flow, Hop, Origin, trace};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn datagrams_in_fragments_arrive() -> Result<()> {
    fragments_arrive(Shape::default())
}

#[test]
fn datagrams_in_fragments_arrive_without_offloads() -> Result<()> {
    fragments_arrive(Shape { offloads: false, ..Shape::default() })
}

#[test]
fn traceroute_sees_every_hop_up_to_the_backend() -> Result<()> {
    let Some(stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    let lab = &stage.lab;
    for family in Family::ALL {
        let [router, node1, node2] = [CLIENT_GATEWAY, lab.node1.addresses, lab.node2.addresses]
            .map(|router| Hop::Expired(router.of(family)));
        for (served, beyond) in [(Served::Here, vec![]), (Served::Elsewhere, vec![node2])] {
            let offer = served.offer(lab);
            for (origin, frontend) in origins(lab, &offer, family) {
                let before = match origin {
                    Origin::Outside => vec![router, node1],
                    // In IPv4 the node speaks with the address it has towards the pod, see
                    // `icmp_errors_use_inbound_ifaddr` in the kernel's ip-sysctl; it is left open.
                    Origin::Pod(_) => vec![],
                };
                let hops = trace(origin.namespace(lab), frontend)?;
                let expected = [before, beyond.clone(), vec![Hop::Answered]].concat();
                let seen = &hops[hops.len().saturating_sub(expected.len())..];
                ensure!(
                    seen == expected,
                    "from {} to {frontend}: {hops:?}, expected {expected:?} at its end",
                    origin.namespace(lab).name()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_closed_port_of_a_backend_is_told_as_the_frontends() -> Result<()> {
    let Some(stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    let lab = &stage.lab;
    for served in [Served::Here, Served::Elsewhere] {
        let offer = served.offer(lab);
        // Where nobody listens.
        let yaml = offer.yaml().replace(&ECHO_PORT.to_string(), "7999");
        stage.manifests.write(&format!("{}.yaml", offer.name), &yaml)?;
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                until("the frontend tells of the closed port", CHANGE, || {
                    let hops = trace(origin.namespace(lab), frontend)?;
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

fn fragments_arrive(shape: Shape) -> Result<()> {
    let Some(stage) = Stage::set(shape)? else {
        return Ok(());
    };
    let lab = &stage.lab;
    for served in Served::ALL {
        let offer = served.offer(lab);
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                for length in [2_000, 60_000] {
                    let flow = Flow { origin, frontend, protocol: Protocol::UDP };
                    flow.send(lab, length)?;
                }
            }
        }
    }
    Ok(())
}

/// A pod with the ClusterIP, the client outside with the node port.
fn origins<'a>(lab: &'a Lab, offer: &Offer, family: Family) -> [(Origin<'a>, SocketAddr); 2] {
    let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
    let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
    [(Origin::Pod(&lab.node1.pods[0]), cluster_ip), (Origin::Outside, node_port)]
}
