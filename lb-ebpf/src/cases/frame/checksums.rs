//! Checks the checksums of a frame against ones computed from its bytes.

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, NetSlice, SlicedPacket, TransportSlice};

use crate::wire;

/// Checks the checksums of a frame's IP and transport headers. A UDP packet over IPv4 may have none.
///
/// # Errors
/// A sentence that says which is wrong.
pub fn check(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    check_sctp(&packet)?;
    match (packet.net, packet.transport) {
        (Some(NetSlice::Ipv4(ip)), transport) => {
            let header = ip.header().to_header();
            compare("IPv4", header.header_checksum, header.calc_header_checksum())?;
            transport.map_or(Ok(()), |transport| check_over_ipv4(&header, &transport))
        }
        (Some(NetSlice::Ipv6(ip)), Some(transport)) => {
            check_over_ipv6(&ip.header().to_header(), &transport)
        }
        _ => Ok(()),
    }
}

fn check_sctp(packet: &SlicedPacket<'_>) -> Result<(), String> {
    if let Some(ip) = packet.ip_payload()
        && ip.ip_number == IpNumber::SCTP
        && !ip.fragmented
        && ip.payload.len() >= 16
    {
        let (is, should) = (&ip.payload[8..12], wire::sctp::checksum(ip.payload));
        if is != should && is != [0; 4] {
            return Err(format!("the SCTP checksum is {is:02x?} and should be {should:02x?}"));
        }
    }
    Ok(())
}

fn check_over_ipv4(ip: &Ipv4Header, transport: &TransportSlice<'_>) -> Result<(), String> {
    match transport {
        TransportSlice::Tcp(tcp) => {
            let sum = tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()).map_err(unfit);
            compare("TCP", tcp.checksum(), sum?)
        }
        TransportSlice::Udp(udp) if udp.checksum() == 0 => Ok(()),
        TransportSlice::Udp(udp) => {
            let sum = udp.to_header().calc_checksum_ipv4(ip, udp.payload()).map_err(unfit);
            compare("UDP", udp.checksum(), sum?)
        }
        TransportSlice::Icmpv4(icmp) => {
            compare("ICMP", icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()))
        }
        TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => Ok(()),
    }
}

fn check_over_ipv6(ip: &Ipv6Header, transport: &TransportSlice<'_>) -> Result<(), String> {
    match transport {
        TransportSlice::Tcp(tcp) => {
            let sum = tcp.to_header().calc_checksum_ipv6(ip, tcp.payload()).map_err(unfit);
            compare("TCP", tcp.checksum(), sum?)
        }
        TransportSlice::Udp(udp) => {
            let sum = udp.to_header().calc_checksum_ipv6(ip, udp.payload()).map_err(unfit);
            compare("UDP", udp.checksum(), sum?)
        }
        TransportSlice::Icmpv6(icmp) => {
            let (from, to) = (ip.source, ip.destination);
            let sum = icmp.icmp_type().calc_checksum(from, to, icmp.payload()).map_err(unfit);
            compare("ICMPv6", icmp.checksum(), sum?)
        }
        TransportSlice::Icmpv4(_) | TransportSlice::Igmp(_) => Ok(()),
    }
}

fn unfit<E>(_: E) -> String {
    "a length does not fit its field".to_owned()
}

fn compare(what: &str, is: u16, should: u16) -> Result<(), String> {
    if is == should {
        Ok(())
    } else {
        Err(format!("the {what} checksum is {is:#06x} and should be {should:#06x}"))
    }
}
