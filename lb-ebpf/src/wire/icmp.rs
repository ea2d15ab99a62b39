//! ICMP (RFC 792) and ICMPv6 (RFC 4443): told apart here, and written.

use lb_common::address::{Address, Family, Protocol};
use lb_common::outcome::Outcome;

use super::IpVersion;
use crate::answer::Message;
use crate::checksum::Difference;
use crate::packet::{COPIED, Packet};

/// Bytes of a header; in an error, the packet that it is about follows.
pub const HEADER: usize = 8;
/// Where the checksum stands in it.
pub const CHECKSUM: usize = 2;

const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
const V4_ECHO_REQUEST: u8 = 8;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_UNREACHABLE: u8 = 1;
const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_FIRST_INFORMATIONAL: u8 = 128;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// How the walk of an ICMP packet ends, by its type, unless somebody looks closer.
#[inline(always)]
pub fn outcome<P: Packet + ?Sized>(packet: &mut P, protocol: Protocol, offset: usize) -> Outcome {
    let Some([kind, ..]) = packet.header::<HEADER>(offset) else {
        return Outcome::Malformed;
    };
    let is_v6 = protocol == Protocol::ICMPV6;
    match *kind {
        V6_ECHO_REQUEST if is_v6 => Outcome::Ping,
        V4_ECHO_REQUEST if !is_v6 => Outcome::Ping,
        V4_UNREACHABLE | V4_TIME_EXCEEDED | V4_PARAMETER_PROBLEM if !is_v6 => Outcome::IcmpError,
        error if is_v6 && error < V6_FIRST_INFORMATIONAL => Outcome::IcmpError,
        _ => Outcome::NotTransport,
    }
}

/// Writes the header of an error behind the IP header in `bytes`, without its checksum. `mtu` is what
/// the next link carries, in bytes; one error alone says it.
#[inline(always)]
pub fn head<V: IpVersion>(bytes: &mut [u8; COPIED], message: Message, mtu: u32) {
    let (kind, code, rest) = match (V::Address::FAMILY, message) {
        (Family::V4, Message::PortUnreachable) => (V4_UNREACHABLE, 3, 0),
        // RFC 1191, section 4: the MTU stands in the lower half.
        (Family::V4, Message::TooBig) => (V4_UNREACHABLE, 4, mtu & 0xffff),
        (Family::V4, Message::TimeExceeded) => (V4_TIME_EXCEEDED, 0, 0),
        (Family::V6, Message::PortUnreachable) => (V6_UNREACHABLE, 4, 0),
        (Family::V6, Message::TooBig) => (V6_TOO_BIG, 0, mtu),
        (Family::V6, Message::TimeExceeded) => (V6_TIME_EXCEEDED, 0, 0),
    };
    let header = bytes.get_mut(V::HEADER..).and_then(|rest| rest.first_chunk_mut::<HEADER>());
    if let Some(header) = header {
        let [a, b, c, d] = rest.to_be_bytes();
        *header = [kind, code, 0, 0, a, b, c, d];
    }
}

/// Writes the checksum into that header, where `sum` is that of all it covers.
#[inline(always)]
pub fn set_checksum<V: IpVersion>(bytes: &mut [u8; COPIED], sum: Difference) {
    let field = bytes.get_mut(V::HEADER + CHECKSUM..).and_then(|rest| rest.first_chunk_mut::<2>());
    if let Some(field) = field {
        *field = sum.alone();
    }
}

/// Makes an echo request at `offset` a reply; returns what has changed, or `None` if it is not there.
#[inline(always)]
pub fn reply<P: Packet + ?Sized>(
    packet: &mut P,
    family: Family,
    offset: usize,
) -> Option<Difference> {
    let [kind, code, ..] = packet.header::<HEADER>(offset)?;
    let before = u16::from_ne_bytes([*kind, *code]);
    *kind = match family {
        Family::V4 => V4_ECHO_REPLY,
        Family::V6 => V6_ECHO_REPLY,
    };
    Some(Difference::NONE.half(before, u16::from_ne_bytes([*kind, *code])))
}
