//! Datagrams that are sent in fragments reach a backend, and its answers in fragments the client, in
//! whatever order the fragments come.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, UdpHeader};
use lb_common::address::{Family, Protocol};
use socket2::{Domain, Socket, Type};
use weir_tests::lab::addresses::CLIENT;
use weir_tests::lab::{Lab, Reach, Shape};
use weir_tests::manifests::Offer;
use weir_tests::stage::{Served, Stage};
use weir_tests::traffic::{Flow, Origin, PATIENCE};

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
    check(Shape { reach: Reach::Overlay, ..Shape::default() }, &[])
}

#[test]
fn datagrams_in_fragments_arrive_at_native_xdp() -> Result<()> {
    let shape = Shape { offloads: false, cards: true, ..Shape::default() };
    check(shape, &["--xdp", "native"])
}

#[test]
fn fragments_may_come_in_any_order() -> Result<()> {
    let Some(stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    in_any_order(&stage)
}

#[test]
fn fragments_may_come_in_any_order_at_native_xdp() -> Result<()> {
    let shape = Shape { offloads: false, cards: true, ..Shape::default() };
    let Some(stage) = Stage::set_with(shape, &["--xdp", "native"])? else {
        return Ok(());
    };
    in_any_order(&stage)
}

fn check(shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(stage) = Stage::set_with(shape, arguments)? else {
        return Ok(());
    };
    let lab = &stage.lab;
    for served in Served::ALL {
        let offer = served.offer(lab);
        for family in Family::ALL {
            for (origin, frontend) in origins(lab, &offer, family) {
                for length in [2_000, 60_000] {
                    let flow = Flow { origin, frontend, protocol: Protocol::UDP };
                    match shape.reach {
                        Reach::Direct => flow.send(lab, length)?,
                        // Its links are narrower than the client's.
                        Reach::Overlay => flow.send_patiently(lab, length)?,
                    };
                }
            }
        }
    }
    Ok(())
}

fn in_any_order(stage: &Stage) -> Result<()> {
    let lab = &stage.lab;
    for served in [Served::ByOne, Served::Elsewhere] {
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

/// Sends a datagram in fragments, in this order, and has it back.
fn exchange(lab: &Lab, origin: Origin, frontend: SocketAddr, order: &[usize]) -> Result<()> {
    const RAW: i32 = 255;
    let family = Family::of(&frontend.ip());
    let own = match origin {
        Origin::Pod(pod) => pod.addresses.of(family),
        Origin::Outside => CLIENT.of(family),
    };
    let (listener, raw) = origin.namespace(lab).run(|| {
        let listener = UdpSocket::bind((own, 0))?;
        let raw = Socket::new(Domain::for_address(frontend), Type::RAW, Some(RAW.into()))?;
        Ok((listener, raw))
    })?;
    listener.set_read_timeout(Some(PATIENCE))?;
    let payload: Vec<u8> = (0..2500_u32).map(|at| (at % 251) as u8).collect();
    let fragments = cut(listener.local_addr()?, frontend, &payload)?;
    for &number in order {
        raw.send_to(&fragments[number], &SocketAddr::from((frontend.ip(), 0)).into())?;
    }
    let mut answer = [0; 4096];
    let (length, from) = listener.recv_from(&mut answer).context("no answer")?;
    ensure!(from == frontend, "an answer from {from}");
    ensure!(answer[..length].ends_with(&payload), "it came back changed");
    Ok(())
}

/// A datagram in three fragments, the last one shorter than the others.
fn cut(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
    /// Bytes in a fragment: as many as fit eight times into something.
    const LENGTH: usize = 1000;
    // Another one for each flow in the lab.
    let identification = 1 << 16 | u32::from(from.port());
    let mut fragments = Vec::new();
    let (ports, mut bytes) = ((from.port(), to.port()), Vec::new());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = |length: usize| {
                Ipv4Header::new(length as u16, 64, IpNumber::UDP, from.octets(), to.octets())
            };
            let udp = UdpHeader::with_ipv4_checksum(ports.0, ports.1, &header(0)?, payload)?;
            udp.write(&mut bytes)?;
            bytes.extend(payload);
            for (number, part) in bytes.chunks(LENGTH).enumerate() {
                let mut header = header(part.len())?;
                header.identification = identification as u16;
                header.dont_fragment = false;
                header.fragment_offset = offset(number * LENGTH)?;
                header.more_fragments = (number + 1) * LENGTH < bytes.len();
                let mut fragment = Vec::new();
                header.write(&mut fragment)?;
                fragment.extend(part);
                fragments.push(fragment);
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = |length: usize| Ipv6Header {
                payload_length: length as u16,
                next_header: IpNumber::IPV6_FRAGMENTATION_HEADER,
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            let udp = UdpHeader::with_ipv6_checksum(ports.0, ports.1, &header(0), payload)?;
            udp.write(&mut bytes)?;
            bytes.extend(payload);
            for (number, part) in bytes.chunks(LENGTH).enumerate() {
                let mut fragment = Vec::new();
                header(Ipv6FragmentHeader::LEN + part.len()).write(&mut fragment)?;
                let more = (number + 1) * LENGTH < bytes.len();
                let at = offset(number * LENGTH)?;
                Ipv6FragmentHeader::new(IpNumber::UDP, at, more, identification)
                    .write(&mut fragment)?;
                fragment.extend(part);
                fragments.push(fragment);
            }
        }
        (from, to) => bail!("{from} cannot send to {to}"),
    }
    Ok(fragments)
}

/// Where a fragment begins, `bytes` into its packet.
fn offset(bytes: usize) -> Result<IpFragOffset> {
    Ok(IpFragOffset::try_new(u16::try_from(bytes / 8)?)?)
}
