//! IPv4, RFC 791.

use lb_common::address::{Protocol, V4};
use lb_common::outcome::Outcome;

use super::{Headers, IpVersion, read_transport};
use crate::checksum::Difference;
use crate::packet::{LINK_HEADER, Packet, Unwritable};

/// Bytes of a header without options.
const HEADER: usize = 20;

/// More fragments follow, or this is not the first (flags and fragment offset, RFC 791, 3.1).
const FRAGMENTED: u16 = 0x3fff;

/// IPv4.
pub struct Ipv4;

impl IpVersion for Ipv4 {
    type Address = V4;

    #[inline(always)]
    fn read<P: Packet + ?Sized>(packet: &mut P, headers: &mut Headers<V4>) -> Result<(), Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::Malformed)?;
        let [first, _, _, _, _, _, fragment_high, fragment_low, hops, protocol, ..] = *header;
        if first >> 4 != 4 || first & 0xf < 5 {
            return Err(Outcome::Malformed);
        }
        if u16::from_be_bytes([fragment_high, fragment_low]) & FRAGMENTED != 0 {
            return Err(Outcome::Fragment);
        }
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        let transport = if first & 0xf == 5 {
            LINK_HEADER + HEADER
        } else {
            LINK_HEADER + ((first & 0xf) as usize) * 4
        };
        read_transport(packet, headers, Protocol(protocol), transport)
    }

    #[inline(always)]
    fn write<P: Packet + ?Sized>(
        packet: &mut P,
        source: &V4,
        destination: &V4,
        hops: u8,
    ) -> Result<Difference, Unwritable> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Unwritable)?;
        let (old_source, old_destination) = addresses(header);
        let pseudo_header = Difference::NONE
            .word(word(&old_source), word(source))
            .word(word(&old_destination), word(destination));
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
        [*s0, *s1, *s2, *s3] = source.0;
        [*d0, *d1, *d2, *d3] = destination.0;

        let [_, _, _, _, _, _, _, _, time_to_live, protocol, check_high, check_low, ..] = header;
        let before = u16::from_ne_bytes([*time_to_live, *protocol]);
        *time_to_live = time_to_live.wrapping_sub(hops);
        let after = u16::from_ne_bytes([*time_to_live, *protocol]);
        [*check_high, *check_low] =
            pseudo_header.half(before, after).applied_to([*check_high, *check_low]);
        Ok(pseudo_header)
    }
}

#[inline(always)]
const fn addresses(header: &[u8; HEADER]) -> (V4, V4) {
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    (V4([s0, s1, s2, s3]), V4([d0, d1, d2, d3]))
}

#[inline(always)]
const fn word(address: &V4) -> u32 {
    u32::from_ne_bytes(address.0)
}
