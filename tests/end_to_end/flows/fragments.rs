//! Datagrams that are sent in fragments reach a backend, and the replies in fragments the client, in
//! whatever order the fragments come.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::packet::LINK_HEADER;
use socket2::{Domain, Socket, Type};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::addresses::CLIENT;
use weir_tests::lab::{Lab, PodRouting, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin, TIMEOUT};

#[test]
fn datagrams_in_fragments_arrive() -> Result<()> {
    check(Shape::default(), &[])
}

#[test]
fn datagrams_in_fragments_arrive_without_offloads() -> Result<()> {
    check(Shape { offloads: false, ..Shape::default() }, &[])
}

#[test]
fn datagrams_in_fragments_arrive_through_an_overlay() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Overlay, ..Shape::default() }, &[])
}

#[test]
fn datagrams_in_fragments_are_served_through_a_tunnel_without_ethernet_headers() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Tun, ..Shape::default() }, &[])
}

#[test]
fn datagrams_in_fragments_arrive_at_native_xdp() -> Result<()> {
    let shape = Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() };
    check(shape, &["--xdp", "native"])
}

#[test]
fn fragments_may_come_in_any_order() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    in_any_order(&fixture)
}

#[test]
fn fragments_may_come_in_any_order_at_native_xdp() -> Result<()> {
    let shape = Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() };
    let Some(fixture) = Fixture::start_with(shape, &["--xdp", "native"])? else {
        return Ok(());
    };
    in_any_order(&fixture)
}

fn check(shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    for served in ServedBy::ALL {
        let offer = served.offer(lab);
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                for length in [2_000, 60_000] {
                    let flow = Flow { origin, frontend, protocol: Protocol::UDP };
                    match shape.pod_routing {
                        PodRouting::Direct => flow.send(lab, length)?,
                        // Its links are narrower than the client's.
                        PodRouting::Overlay
                        | PodRouting::Tun
                        | PodRouting::Ipip
                        | PodRouting::WireGuard => flow.send_patiently(lab, length)?,
                    };
                }
            }
        }
    }
    Ok(())
}

fn in_any_order(fixture: &Fixture) -> Result<()> {
    let lab = &fixture.lab;
    for served in [ServedBy::OnePod, ServedBy::RemotePods] {
        let offer = served.offer(lab);
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                    exchange(lab, origin, frontend, &order)
                        .with_context(|| format!("fragments {order:?} to {frontend}"))?;
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
    [(Origin::Pod(&lab.node1.pods[1]), cluster_ip), (Origin::Outside, node_port)]
}

/// Sends a datagram in three fragments, in this order, and receives it back.
fn exchange(lab: &Lab, origin: Origin, frontend: SocketAddr, order: &[usize]) -> Result<()> {
    const RAW: i32 = 255;
    let family = Family::of(&frontend.ip());
    let own = match origin {
        Origin::Pod(pod) => pod.addresses.of(family),
        Origin::Outside => CLIENT.of(family),
        Origin::Host => lab.node1.addresses.of(family),
    };
    let (listener, raw) = origin.namespace(lab).run(|| {
        let listener = UdpSocket::bind((own, 0))?;
        let raw = Socket::new(Domain::for_address(frontend), Type::RAW, Some(RAW.into()))?;
        Ok((listener, raw))
    })?;
    listener.set_read_timeout(Some(TIMEOUT))?;
    let payload = [0x5a; 100];
    let own = listener.local_addr()?;
    let fragments =
        frame::fragments(&frame::frame(own, frontend, Protocol::UDP, Kind::Data, &payload));
    ensure!(fragments.len() == order.len(), "{} fragments", fragments.len());
    for &number in order {
        let (_link, packet) = fragments[number].split_at(LINK_HEADER);
        // Raw sockets take no port.
        raw.send_to(packet, &SocketAddr::from((frontend.ip(), 0)).into())?;
    }
    let mut response = [0; 256];
    let (length, from) = listener.recv_from(&mut response).context("no reply")?;
    ensure!(from == frontend, "a reply from {from}");
    ensure!(response[..length].ends_with(&payload), "it came back changed");
    Ok(())
}
