//! A link on the path has a smaller MTU than those at both ends: ICMP errors about larger packets come
//! from the frontend, and everything arrives.

use anyhow::Result;
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{NarrowLink, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin};

/// The MTU of the narrow link, and the bytes of a datagram that makes many fragments of that size.
const MTU: u16 = 1300;
const DATAGRAM: usize = 60_000;

#[test]
fn a_narrow_link_before_the_client() -> Result<()> {
    check(NarrowLink::Client, Shape::default(), &[])
}

#[test]
fn a_narrow_link_before_the_node() -> Result<()> {
    check(NarrowLink::Node, Shape::default(), &[])
}

#[test]
fn a_narrow_link_between_the_nodes() -> Result<()> {
    check(NarrowLink::BetweenNodes, Shape::default(), &[])
}

#[test]
fn a_narrow_link_before_remote_pods() -> Result<()> {
    check(NarrowLink::RemotePods, Shape::default(), &[])
}

#[test]
fn narrow_links_everywhere_without_offloads() -> Result<()> {
    for link in NarrowLink::ALL {
        check(link, Shape { offloads: false, ..Shape::default() }, &[])?;
    }
    Ok(())
}

#[test]
fn narrow_links_everywhere_with_native_xdp() -> Result<()> {
    for link in NarrowLink::ALL {
        let shape = Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() };
        check(link, shape, &["--xdp", "native"])?;
    }
    Ok(())
}

fn check(link: NarrowLink, shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    lab.limit_mtu(link, MTU)?;
    for served in [ServedBy::LocalPods, ServedBy::RemotePods] {
        let offer = served.offer(lab);
        for family in Family::ALL {
            let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            let origins =
                [(Origin::Outside, node_port), (Origin::Pod(&lab.node1.pods[0]), cluster_ip)];
            for (origin, frontend) in origins {
                let flow = Flow { origin, frontend, protocol: Protocol::TCP };
                flow.send(lab, 1 << 20)?;
                let flow = Flow { protocol: Protocol::UDP, ..flow };
                flow.send_patiently(lab, DATAGRAM)?;
            }
        }
    }
    Ok(())
}
