//! ICMP (RFC 792) and ICMPv6 (RFC 4443): types, and writing messages.

use lb_common::address::{Address, Family, Protocol};
use lb_common::outcome::Outcome;

use super::ip::IpVersion;
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

/// An ICMP error that this node sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ErrorKind {
    /// Destination unreachable, port unreachable.
    PortUnreachable,
    /// Fragmentation needed (IPv4), packet too big (IPv6): larger than the next link's MTU.
    FragNeeded,
    /// Time exceeded: the TTL or hop limit ran out.
    TimeExceeded,
}

/// The outcome of an ICMP packet by its type, unless the slow path finds another.
#[inline(always)]
pub fn outcome_of_type<P: Packet + ?Sized>(
    packet: &mut P,
    protocol: Protocol,
    offset: usize,
) -> Outcome {
    let Some([kind, ..]) = packet.header::<HEADER>(offset) else {
        return Outcome::PassedMalformed;
    };
    let is_v6 = protocol == Protocol::ICMPV6;
    match *kind {
        V6_ECHO_REQUEST if is_v6 => Outcome::PassedEcho,
        V4_ECHO_REQUEST if !is_v6 => Outcome::PassedEcho,
        V4_UNREACHABLE | V4_TIME_EXCEEDED | V4_PARAMETER_PROBLEM if !is_v6 => {
            Outcome::PassedIcmpError
        }
        error if is_v6 && error < V6_FIRST_INFORMATIONAL => Outcome::PassedIcmpError,
        _ => Outcome::PassedUnsupportedProtocol,
    }
}

/// Writes the header of an error behind the IP header in `bytes`, without its checksum. `mtu` is the next
/// link's, in bytes; only one of the errors carries it.
#[inline(always)]
pub(crate) fn write_header<V: IpVersion>(bytes: &mut [u8; COPIED], kind: ErrorKind, mtu: u32) {
    let (message_type, code, rest) = match (V::Address::FAMILY, kind) {
        (Family::V4, ErrorKind::PortUnreachable) => (V4_UNREACHABLE, 3, 0),
        // RFC 1191, section 4: the MTU stands in the lower half.
        (Family::V4, ErrorKind::FragNeeded) => (V4_UNREACHABLE, 4, mtu & 0xffff),
        (Family::V4, ErrorKind::TimeExceeded) => (V4_TIME_EXCEEDED, 0, 0),
        (Family::V6, ErrorKind::PortUnreachable) => (V6_UNREACHABLE, 4, 0),
        (Family::V6, ErrorKind::FragNeeded) => (V6_TOO_BIG, 0, mtu),
        (Family::V6, ErrorKind::TimeExceeded) => (V6_TIME_EXCEEDED, 0, 0),
    };
    let header = bytes.get_mut(V::HEADER..).and_then(|rest| rest.first_chunk_mut::<HEADER>());
    if let Some(header) = header {
        let [a, b, c, d] = rest.to_be_bytes();
        *header = [message_type, code, 0, 0, a, b, c, d];
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

/// Makes an echo request at `offset` a reply; returns the change, or `None` if it is not there.
#[inline(always)]
pub fn make_reply<P: Packet + ?Sized>(
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

/// The packet that an error quotes; all in bytes from the start of the frame.
#[derive(Clone, Copy, Default)]
pub(crate) struct Quote {
    /// Where its IP header begins.
    pub(crate) ip: usize,
    /// Where its transport header begins.
    pub(crate) transport: usize,
    /// Where the error ends: bytes of the frame behind that are neither quoted nor under the checksum.
    pub(crate) end: u32,
}

impl Quote {
    /// Whether `length` bytes of transport header are quoted.
    #[inline(always)]
    pub(crate) const fn holds(self, length: usize) -> bool {
        (self.transport + length) as u32 <= self.end
    }
}
