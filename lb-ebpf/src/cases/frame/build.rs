//! Builds frames of TCP, UDP, SCTP and ICMP.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep};
use lb_common::address::Protocol;

use crate::cases::topology::{NODE_LINK, ROUTER_LINK};
use crate::wire;

/// Hop limit (IPv4: TTL) of built frames.
pub const HOP_LIMIT: u8 = 64;

/// Where both sides of a TCP connection begin to count.
const SEQUENCE: u32 = 1000;

/// The tag of both sides of an SCTP association.
const TAG: [u8; 4] = [0, 1, 2, 3];

/// What a packet does to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP SYN, SCTP INIT, a UDP datagram.
    Open,
    /// TCP SYN and ACK, SCTP INIT ACK, a UDP datagram.
    Accept,
    /// TCP ACK with data, SCTP DATA, a UDP datagram.
    Data,
    /// TCP FIN, SCTP SHUTDOWN, a UDP datagram.
    Close,
    /// TCP RST, SCTP ABORT, a UDP datagram.
    Reset,
}

/// A frame of `kind` with `payload`.
///
/// # Panics
/// `from` and `to` are of different families.
#[must_use]
pub fn frame(
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
    kind: Kind,
    payload: &[u8],
) -> Vec<u8> {
    let ip = ip(from.ip(), to.ip());
    let mut bytes = Vec::new();
    if protocol == Protocol::SCTP {
        ip.write(&mut bytes, IpNumber::SCTP, &sctp(from.port(), to.port(), kind, payload))
    } else if protocol == Protocol::UDP {
        ip.udp(from.port(), to.port()).write(&mut bytes, payload)
    } else {
        let sequence =
            if matches!(kind, Kind::Open | Kind::Accept) { SEQUENCE } else { SEQUENCE + 1 };
        let tcp = ip.tcp(from.port(), to.port(), sequence, 4096);
        let tcp = match kind {
            Kind::Open => tcp.syn(),
            Kind::Accept => tcp.syn().ack(SEQUENCE + 1),
            Kind::Data => tcp.ack(SEQUENCE + 1).psh(),
            Kind::Close => tcp.ack(SEQUENCE + 1).fin(),
            Kind::Reset => tcp.ack(SEQUENCE + 1).rst(),
        };
        tcp.write(&mut bytes, payload)
    }
    .expect("a vector takes any packet");
    bytes
}

/// Link and IP headers.
fn ip(from: IpAddr, to: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let link = PacketBuilder::ethernet2(ROUTER_LINK, NODE_LINK);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOP_LIMIT),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOP_LIMIT),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{from} and {to} are of different families")
        }
    }
}

/// An SCTP packet with one chunk (RFC 9260, 3.1 and 3.2).
fn sctp(from: u16, to: u16, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let chunk = match kind {
        Kind::Open => 1,
        Kind::Accept => 2,
        Kind::Data => 0,
        Kind::Close => 7,
        Kind::Reset => 6,
    };
    let tags: &[u8] = if matches!(kind, Kind::Open | Kind::Accept) { &TAG } else { &[] };
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend(TAG);
    packet.extend([0; 4]);
    packet.extend([chunk, 0]);
    packet.extend((tags.len() as u16 + payload.len() as u16 + 4).to_be_bytes());
    packet.extend(tags);
    packet.extend(payload);
    let checksum = wire::sctp::checksum(&packet);
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// An ICMP message's type, code and last four bytes of header.
pub type Icmp = (u8, u8, u32);

/// A frame with an ICMP message from `from` to `to`, and `payload` after its header.
///
/// # Panics
/// `from` and `to` are of different families.
#[must_use]
pub fn icmp(from: IpAddr, to: IpAddr, (kind, code, rest): Icmp, payload: &[u8]) -> Vec<u8> {
    let ip = ip(from, to);
    let mut bytes = Vec::new();
    match from {
        IpAddr::V4(_) => ip.icmpv4_raw(kind, code, rest.to_be_bytes()).write(&mut bytes, payload),
        IpAddr::V6(_) => ip.icmpv6_raw(kind, code, rest.to_be_bytes()).write(&mut bytes, payload),
    }
    .expect("a vector takes any packet");
    bytes
}
