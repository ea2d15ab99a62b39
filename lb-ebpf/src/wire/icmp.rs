//! ICMP (RFC 792) and ICMPv6 (RFC 4443): so far told apart and left alone.

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use crate::packet::Packet;

const V4_UNREACHABLE: u8 = 3;
const V4_ECHO_REQUEST: u8 = 8;
const V4_TIME_EXCEEDED: u8 = 11;
const V4_PARAMETER_PROBLEM: u8 = 12;
const V6_FIRST_INFORMATIONAL: u8 = 128;
const V6_ECHO_REQUEST: u8 = 128;

/// How the walk of an ICMP packet ends, by its type.
#[inline(always)]
pub fn outcome<P: Packet + ?Sized>(packet: &mut P, protocol: Protocol, offset: usize) -> Outcome {
    let Some([kind, ..]) = packet.header::<8>(offset) else {
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
