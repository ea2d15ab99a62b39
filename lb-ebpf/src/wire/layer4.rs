//! From an IP header on into the transport header.

use lb_common::address::{Address, Protocol, Tuple};
use lb_common::outcome::Outcome;

use super::headers::{Headers, Part};
use super::ip::IpVersion;
use super::{icmp, sctp, transport};
use crate::packet::Packet;

/// Bytes of a transport header that every error quotes (RFC 792): the ports are among them.
pub(crate) const QUOTED_TRANSPORT: usize = 8;

/// Whether `part` of a packet can be translated: SCTP's checksum follows a change only if the length
/// of the whole packet is known, which its first fragment does not say.
#[inline(always)]
pub(super) fn translatable<A: Address>(headers: &Headers<A>, part: Part) -> Result<Part, Outcome> {
    if matches!(part, Part::First) && headers.tuple.protocol == Protocol::SCTP {
        Err(Outcome::PassedFragment)
    } else {
        Ok(part)
    }
}

/// Parses the ports of a quoted packet, of which eight bytes of transport header are there; returns
/// where it begins.
#[inline(always)]
pub(super) fn parse_quoted_ports<A: Address, P: Packet + ?Sized>(
    packet: &mut P,
    tuple: &mut Tuple<A>,
    protocol: Protocol,
    offset: usize,
) -> Option<usize>
where
    Tuple<A>: bytemuck::Pod,
{
    if !matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
        return None;
    }
    let (ports, ..) = transport::udp(packet, offset)?;
    tuple.source_port = ports.source();
    tuple.destination_port = ports.destination();
    tuple.set_protocol(protocol);
    Some(offset)
}

/// Parses the transport header, once the IP header has filled in the rest.
#[inline(always)]
pub(super) fn parse_transport<V: IpVersion, P: Packet + ?Sized>(
    packet: &mut P,
    headers: &mut Headers<V::Address>,
    protocol: Protocol,
    offset: usize,
) -> Result<(), Outcome>
where
    Tuple<V::Address>: bytemuck::Pod,
{
    let (ports, flags, proof) = match protocol {
        Protocol::TCP => transport::tcp(packet, offset),
        Protocol::UDP => transport::udp(packet, offset),
        Protocol::SCTP => {
            let end = V::end(packet).ok_or(Outcome::PassedMalformed)?;
            sctp::sctp(packet, offset, end)
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            headers.transport = offset as u32;
            return Err(icmp::outcome_of_type(packet, protocol, offset));
        }
        _ => return Err(Outcome::PassedUnsupportedProtocol),
    }
    .ok_or(Outcome::PassedMalformed)?;
    headers.tuple.source_port = ports.source();
    headers.tuple.destination_port = ports.destination();
    headers.tuple.set_protocol(protocol);
    headers.transport = offset as u32;
    headers.flags = flags;
    headers.proof = proof;
    Ok(())
}
