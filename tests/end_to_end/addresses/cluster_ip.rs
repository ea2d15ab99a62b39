//! A pod reaches a Service at its ClusterIP, whichever pod serves it: one on its node, one on another,
//! or itself. The backend sees the client's own address, except for a pod that reaches itself (hairpin).

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Attachment, PodRouting, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin};

#[test]
fn pods_reach_services_over_routes() -> Result<()> {
    check(Shape::default())
}

#[test]
fn pods_reach_services_without_offloads() -> Result<()> {
    check(Shape { offloads: false, ..Shape::default() })
}

#[test]
fn pods_reach_services_over_bridges() -> Result<()> {
    check(Shape { attachment: Attachment::Bridged, ..Shape::default() })
}

#[test]
fn pods_reach_services_through_an_overlay() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Overlay, ..Shape::default() })
}

#[test]
fn pods_reach_services_through_an_overlay_without_offloads() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Overlay, offloads: false, ..Shape::default() })
}

fn check(shape: Shape) -> Result<()> {
    let Some(fixture) = Fixture::start(shape)? else {
        return Ok(());
    };
    // The one pod that serves `ByOne` is this client: a hairpin.
    let client = &fixture.lab.node1.pods[0];
    for served in ServedBy::ALL {
        let offer = served.offer(&fixture.lab);
        for family in Family::ALL {
            let frontend = (offer.cluster_ips().of(family), Offer::PORT).into();
            for (protocol, lengths) in LENGTHS {
                for &length in lengths {
                    let flow = Flow { origin: Origin::Pod(client), frontend, protocol };
                    let response = flow.send(&fixture.lab, length)?;
                    let allowed = offer.pods.iter().any(|pod| pod.name == response.pod);
                    ensure!(allowed, "{} serves {flow}", response.pod);
                }
            }
        }
    }
    Ok(())
}

/// Bytes to send: one, about a packet's worth, and for TCP a megabyte.
const LENGTHS: [(Protocol, &[usize]); 2] =
    [(Protocol::TCP, &[1, 1400, 1 << 20]), (Protocol::UDP, &[1, 1300])];
