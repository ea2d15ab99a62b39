//! Reads frames back.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::build::Icmp;

/// An ICMP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpMessage {
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Type, code and the last four bytes of its header.
    pub icmp: Icmp,
}

/// A frame's ICMP message and the bytes after its header; `None` if the frame is no ICMP.
#[must_use]
pub fn icmp_message(frame: &[u8]) -> Option<(IcmpMessage, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (from, to) = addresses(packet.net.as_ref()?)?;
    let (icmp, payload) = match packet.transport? {
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
    Some((IcmpMessage { from, to, icmp }, payload))
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

/// The hop limit (IPv4: TTL) of an IP packet.
#[must_use]
pub fn hop_limit(frame: &[u8]) -> u8 {
    if frame[14] >> 4 == 4 { frame[22] } else { frame[21] }
}
