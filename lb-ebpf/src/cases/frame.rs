//! Frames, built and read back by etherparse: a parser that knows nothing of ours.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lb_common::address::{Address, Port, Protocol, Tuple};

use super::lab;

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
    let link = PacketBuilder::ethernet2(lab::ROUTER_LINK, lab::NODE_LINK);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOPS),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("{from} and {to} are of different families")
        }
    };
    let mut bytes = Vec::new();
    if protocol == Protocol::UDP {
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

/// The tuple of packets from `from` to `to`.
#[must_use]
pub fn tuple<A: Address>(from: SocketAddr, to: SocketAddr, protocol: Protocol) -> Tuple<A> {
    Tuple::new(
        lab::address(from.ip()),
        Port::new(from.port()),
        lab::address(to.ip()),
        Port::new(to.port()),
        protocol,
    )
}

/// Source and destination of a frame, or `None` if it is no TCP or UDP packet.
#[must_use]
pub fn ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination): (IpAddr, IpAddr) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        NetSlice::Arp(_) => return None,
    };
    let (from, to) = match packet.transport? {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => {
            return None;
        }
    };
    Some((SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

/// Hops an IP packet may still make.
#[must_use]
pub fn hops(frame: &[u8]) -> u8 {
    if frame[14] >> 4 == 4 { frame[22] } else { frame[21] }
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
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
