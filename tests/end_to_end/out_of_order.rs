//! Fragments that overtake the first one of their packet reach the backend of the flow all the same,
//! and the answer comes back.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_ebpf::cases::frame::{self, Kind};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use weir_tests::lab::{Namespace, Shape};
use weir_tests::manifests::Offer;
use weir_tests::stage::{Served, Stage};
use weir_tests::traffic::PATIENCE;

#[test]
fn a_datagram_whose_fragments_come_last_first_is_served() -> Result<()> {
    let Some(stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    let pod = &stage.lab.node1.pods[0].namespace;
    for served in [Served::Here, Served::Elsewhere] {
        let offer = served.offer(&stage.lab);
        for family in Family::ALL {
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            let node = (stage.lab.node1.addresses.of(family), offer.node_port()).into();
            ask_in_reverse(pod, cluster_ip)?;
            ask_in_reverse(&stage.lab.client, node)?;
        }
    }
    Ok(())
}

/// Asks the echo server behind `frontend` by a datagram in three fragments, the last one first.
fn ask_in_reverse(namespace: &Namespace, frontend: SocketAddr) -> Result<()> {
    let asker = namespace.run(|| {
        let own: SocketAddr = match frontend {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let asker = UdpSocket::bind(own)?;
        asker.connect(frontend)?;
        Ok(asker)
    })?;
    asker.set_read_timeout(Some(PATIENCE))?;
    let question = [0x5a; 100];
    let own = asker.local_addr()?;
    let whole = frame::frame(own, frontend, Protocol::UDP, Kind::Data, &question);
    let pieces = frame::cut(&whole);
    ensure!(pieces.len() == 3, "{} fragments", pieces.len());
    namespace.run(|| pieces.iter().rev().try_for_each(|piece| send(&piece[14..], frontend)))?;
    let mut answer = [0; 256];
    let length = asker
        .recv(&mut answer)
        .with_context(|| format!("no answer from {frontend} within {PATIENCE:?}"))?;
    ensure!(answer[..length].ends_with(&question), "the question came back changed");
    Ok(())
}

/// Sends an IP packet as it is.
fn send(packet: &[u8], to: SocketAddr) -> Result<()> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
    // A raw socket takes no port.
    let to = SockaddrStorage::from(SocketAddr::new(to.ip(), 0));
    let sent = sendto(raw.as_raw_fd(), packet, &to, MsgFlags::empty())?;
    ensure!(sent == packet.len(), "{sent} of {} bytes were sent", packet.len());
    Ok(())
}
