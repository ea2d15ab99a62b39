//! Frames, built and read back by etherparse: a parser that knows nothing of ours.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lb_common::address::{Address, Port, Protocol, Tuple};

use super::topology;

/// Hops that built frames may make.
pub const HOPS: u8 = 64;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP, opening; for UDP, a datagram.
    Open,
    /// TCP, accepting; for UDP, a datagram.
    Accept,
    /// TCP, in the middle; for UDP, a datagram.
    Data,
    /// TCP, closing; for UDP, a datagram.
    Close,
    /// TCP, resetting; for UDP, a datagram.
    Reset,
}

/// A frame of `kind` with `payload`.
#[must_use]
pub fn frame(
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
    kind: Kind,
    payload: &[u8],
) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(topology::ROUTER_LINK, topology::NODE_LINK);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOPS),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{from} and {to} are of different families")
        }
    };
    let mut bytes = Vec::new();
    if protocol == Protocol::SCTP {
        let number = etherparse::IpNumber::SCTP;
        ip.write(&mut bytes, number, &sctp(from.port(), to.port(), kind, payload))
    } else if protocol == Protocol::UDP {
        ip.udp(from.port(), to.port()).write(&mut bytes, payload)
    } else {
        let tcp = ip.tcp(from.port(), to.port(), 1000, 4096);
        let tcp = match kind {
            Kind::Open => tcp.syn(),
            Kind::Accept => tcp.syn().ack(1),
            Kind::Data => tcp.ack(1).psh(),
            Kind::Close => tcp.ack(1).fin(),
            Kind::Reset => tcp.ack(1).rst(),
        };
        tcp.write(&mut bytes, payload)
    }
    .expect("a vector takes any packet");
    bytes
}

/// An SCTP packet with a chunk that means what `kind` does in TCP (RFC 9260, 3.1 and 3.2).
fn sctp(from: u16, to: u16, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let chunk = match kind {
        Kind::Open => 1,
        Kind::Accept => 2,
        Kind::Data => 0,
        Kind::Close => 7,
        Kind::Reset => 6,
    };
    let mut packet = [from.to_be_bytes(), to.to_be_bytes(), [0, 1], [2, 3]].concat();
    packet.extend([0; 4]);
    packet.extend([chunk, 0]);
    packet.extend((payload.len() as u16 + 4).to_be_bytes());
    packet.extend(payload);
    let checksum = crate::wire::sctp::checksum(&packet);
    packet[8..12].copy_from_slice(&checksum);
    packet
}

/// An ICMP error's type, code and last four bytes of header.
pub type Icmp = (u8, u8, u32);

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpMessage {
    /// Who says it.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// What.
    pub icmp: Icmp,
}

/// A frame with ICMP from `from` to `to` and `quote` behind its header.
#[must_use]
pub fn icmp(from: IpAddr, to: IpAddr, (kind, code, rest): Icmp, quote: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(topology::ROUTER_LINK, topology::NODE_LINK);
    let mut bytes = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link
            .ipv4(from.octets(), to.octets(), HOPS)
            .icmpv4_raw(kind, code, rest.to_be_bytes())
            .write(&mut bytes, quote),
        (IpAddr::V6(from), IpAddr::V6(to)) => link
            .ipv6(from.octets(), to.octets(), HOPS)
            .icmpv6_raw(kind, code, rest.to_be_bytes())
            .write(&mut bytes, quote),
        _ => panic!("{from} and {to} are of different families"),
    }
    .expect("a vector takes any packet");
    bytes
}

/// What an ICMP error says, and the packet that it quotes; `None` if the frame is no ICMP.
#[must_use]
pub fn icmp_message(frame: &[u8]) -> Option<(IcmpMessage, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (from, to) = addresses(packet.net.as_ref()?)?;
    let (icmp, quote) = match packet.transport? {
        TransportSlice::Icmpv4(icmp) => {
            let rest = u32::from_be_bytes(icmp.bytes5to8());
            ((icmp.type_u8(), icmp.code_u8(), rest), frame.get(14 + 28..)?)
        }
        TransportSlice::Icmpv6(icmp) => {
            let rest = u32::from_be_bytes(icmp.bytes5to8());
            ((icmp.type_u8(), icmp.code_u8(), rest), frame.get(14 + 48..)?)
        }
        TransportSlice::Tcp(_) | TransportSlice::Udp(_) | TransportSlice::Igmp(_) => return None,
    };
    Some((IcmpMessage { from, to, icmp }, quote))
}

fn addresses(net: &NetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetSlice::Ipv4(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        NetSlice::Ipv6(ip) => {
            Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
        }
        NetSlice::Arp(_) => None,
    }
}

/// The tuple of packets from `from` to `to`.
#[must_use]
pub fn tuple<A: Address>(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Tuple<A> {
    Tuple::new(
        topology::address(from.ip()),
        Port::new(from.port()),
        topology::address(to.ip()),
        Port::new(to.port()),
        protocol,
    )
}

/// Source and destination of a frame, or `None` if it has no ports.
#[must_use]
pub fn ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination) = addresses(packet.net.as_ref()?)?;
    let (from, to) = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) => {
            return None;
        }
        None => {
            let [a, b, c, d, ..] = *packet.ip_payload()?.payload else { return None };
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
    };
    Some((SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

/// Hops an IP packet may still make.
#[must_use]
pub fn hops(frame: &[u8]) -> u8 {
    if frame[14] >> 4 == 4 { frame[22] } else { frame[21] }
}

/// Bytes of the IP payload in each fragment.
const PIECE: usize = 48;

/// A frame's packet in fragments (RFC 791, 3.2; RFC 8200, 4.5).
#[must_use]
pub fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    let is_v4 = frame[14] >> 4 == 4;
    let (headers, payload) = frame.split_at(if is_v4 { 34 } else { 54 });
    let count = payload.chunks(PIECE).count();
    let piece = |(number, bytes): (usize, &[u8])| {
        let (offset, more) = (number * PIECE, number + 1 < count);
        let mut piece = headers.to_vec();
        if is_v4 {
            piece[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&[0x12, 0x34]);
            let fragment = (offset / 8) as u16 | u16::from(more) << 13;
            piece[20..22].copy_from_slice(&fragment.to_be_bytes());
            set_ipv4_checksum(&mut piece);
        } else {
            piece[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut piece[20], 44);
            let fragment = offset as u16 | u16::from(more);
            piece.extend([next, 0]);
            piece.extend(fragment.to_be_bytes());
            piece.extend([0xde, 0xad, 0xbe, 0xef]);
        }
        piece.extend(bytes);
        piece
    };
    payload.chunks(PIECE).enumerate().map(piece).collect()
}

/// Sets the hop limit, and the checksum over it.
pub fn set_hops(frame: &mut [u8], hops: u8) {
    if frame[14] >> 4 == 4 {
        frame[22] = hops;
        set_ipv4_checksum(frame);
    } else {
        frame[21] = hops;
    }
}

/// Sets the checksum of a frame's IPv4 header.
///
/// # Panics
/// There is no such header.
pub fn set_ipv4_checksum(frame: &mut [u8]) {
    let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..])
        .expect("the frame was built as an IPv4 packet");
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Whether the checksums of a frame are right: those of its IP and transport headers, computed anew.
/// A UDP packet over IPv4 may have none.
///
/// # Errors
/// A sentence that says which is wrong.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let wrong = |what: &str, is: u16, should: u16| {
        if is == should {
            Ok(())
        } else {
            Err(format!("the {what} checksum is {is:#06x} and should be {should:#06x}"))
        }
    };
    let failed = |_| "a length does not fit its field".to_owned();
    if let Some(ip) = packet.ip_payload()
        && ip.ip_number == etherparse::IpNumber::SCTP
        && !ip.fragmented
        && ip.payload.len() >= 16
    {
        let (is, should) = (&ip.payload[8..12], crate::wire::sctp::checksum(ip.payload));
        if is != should && is != [0; 4] {
            return Err(format!("the SCTP checksum is {is:02x?} and should be {should:02x?}"));
        }
    }
    match (packet.net, packet.transport) {
        (Some(NetSlice::Ipv4(ip)), transport) => {
            let header = ip.header().to_header();
            wrong("IPv4", header.header_checksum, header.calc_header_checksum())?;
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload());
                    wrong("TCP", tcp.checksum(), sum.map_err(failed)?)
                }
                Some(TransportSlice::Udp(udp)) if udp.checksum() == 0 => Ok(()),
                Some(TransportSlice::Udp(udp)) => {
                    let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
                    wrong("UDP", udp.checksum(), sum.map_err(failed)?)
                }
                Some(TransportSlice::Icmpv4(icmp)) => {
                    let sum = icmp.icmp_type().calc_checksum(icmp.payload());
                    wrong("ICMP", icmp.checksum(), sum)
                }
                _ => Ok(()),
            }
        }
        (Some(NetSlice::Ipv6(ip)), transport) => {
            let header = ip.header().to_header();
            match transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    let sum = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload());
                    wrong("TCP", tcp.checksum(), sum.map_err(failed)?)
                }
                Some(TransportSlice::Udp(udp)) => {
                    let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload());
                    wrong("UDP", udp.checksum(), sum.map_err(failed)?)
                }
                Some(TransportSlice::Icmpv6(icmp)) => {
                    let (from, to) = (header.source, header.destination);
                    let sum = icmp.icmp_type().calc_checksum(from, to, icmp.payload());
                    wrong("ICMPv6", icmp.checksum(), sum.map_err(failed)?)
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
