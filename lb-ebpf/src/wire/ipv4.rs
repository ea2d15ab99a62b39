//! IPv4, RFC 791.

use core::ops::RangeInclusive;

use lb_common::address::{Protocol, Tuple, V4};
use lb_common::fragment::Fragmented;
use lb_common::outcome::Outcome;

use super::headers::{Extent, Headers, Part};
use super::ip::{IpVersion, OWN_HOP_LIMIT};
use super::layer4::{parse_quoted_ports, parse_transport, translatable};
use crate::checksum::Difference;
use crate::packet::{COPIED, LINK_HEADER, Packet, WriteError};

/// Bytes of a header without options.
const HEADER: usize = 20;

/// The first byte of a header: version 4, and a length of at least five words.
const FIRST_BYTES: RangeInclusive<u8> = 0x45..=0x4f;

/// More fragments follow, or this is not the first (flags and fragment offset, RFC 791, 3.1).
const FRAGMENTED: u16 = 0x3fff;

/// More fragments follow.
const MORE: u16 = 0x2000;

/// Where in its packet a fragment stands, in units of eight bytes.
const OFFSET: u16 = 0x1fff;

/// The high byte of flags and fragment offset that forbids to cut the packet.
const DONT_FRAGMENT: u8 = 0x40;

/// Type of service of our own errors: internetwork control (RFC 1812, 4.3.2.5).
const TOS: u8 = 0xc0;

/// IPv4.
pub struct Ipv4;

impl IpVersion for Ipv4 {
    type Address = V4;
    const HEADER: usize = HEADER;

    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &mut P, headers: &mut Headers<V4>) -> Result<(), Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::PassedMalformed)?;
        let [first, _, _, _, _, _, fragment_high, fragment_low, hops, protocol, ..] = *header;
        if !FIRST_BYTES.contains(&first) {
            return Err(Outcome::PassedMalformed);
        }
        if u16::from_be_bytes([fragment_high, fragment_low]) & FRAGMENTED != 0 {
            return Err(Outcome::PassedFragment);
        }
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        let transport = LINK_HEADER + ((first & 0xf) as usize) * 4;
        parse_transport::<Self, P>(packet, headers, Protocol(protocol), transport)
    }

    #[inline(always)]
    fn parse_all<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<V4>,
        fragmented: &mut Fragmented<V4>,
        extent: &mut Extent,
    ) -> Result<Part, Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::PassedMalformed)?;
        let [
            first,
            _,
            total_high,
            total_low,
            id_high,
            id_low,
            fragment_high,
            fragment_low,
            hops,
            protocol,
            ..,
        ] = *header;
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        (fragmented.source, fragmented.destination) = addresses(header);
        fragmented.identification = u32::from_be_bytes([0, 0, id_high, id_low]);
        fragmented.protocol = Protocol(protocol);
        let transport = LINK_HEADER + ((first & 0xf) as usize) * 4;
        let end = LINK_HEADER as u32 + u32::from_be_bytes([0, 0, total_high, total_low]);
        let offset = u32::from(fragment & OFFSET) * 8;
        *extent = Extent::of(transport as u32, end, offset, fragment & MORE == 0);
        if fragment & OFFSET != 0 {
            headers.set_later_fragment();
            headers.tuple.set_protocol(Protocol(protocol));
            return Ok(Part::Later);
        }
        parse_transport::<Self, P>(packet, headers, Protocol(protocol), transport)?;
        let part = if fragment & FRAGMENTED == 0 { Part::Whole } else { Part::First };
        translatable(headers, part)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        tuple: &mut Tuple<V4>,
    ) -> Option<usize> {
        let header = packet.header::<HEADER>(at)?;
        let [first, _, _, _, _, _, fragment_high, fragment_low, _, protocol, ..] = *header;
        let is_later = u16::from_be_bytes([fragment_high, fragment_low]) & OFFSET != 0;
        if !FIRST_BYTES.contains(&first) || is_later {
            return None;
        }
        (tuple.source, tuple.destination) = addresses(header);
        let transport = at + ((first & 0xf) as usize) * 4;
        parse_quoted_ports(packet, tuple, Protocol(protocol), transport)
    }

    #[inline(always)]
    fn end<P: Packet + ?Sized>(packet: &mut P) -> Option<u32> {
        let [_, _, high, low] = *packet.header::<4>(LINK_HEADER)?;
        Some(LINK_HEADER as u32 + u32::from_be_bytes([0, 0, high, low]))
    }

    #[inline(always)]
    fn write_header(bytes: &mut [u8; COPIED], from: &V4, to: &V4, length: u32) {
        let Some(header) = bytes.first_chunk_mut::<HEADER>() else { return };
        let [.., high, low] = (HEADER as u32 + length).to_be_bytes();
        let ([a, b, c, d], [e, f, g, h]) = (from.0, to.0);
        let icmp = Protocol::ICMP.0;
        *header = [
            0x45,
            TOS,
            high,
            low,
            0,
            0,
            DONT_FRAGMENT,
            0,
            OWN_HOP_LIMIT,
            icmp,
            0,
            0,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
        ];
        let words = header.as_chunks::<4>().0.iter();
        let sum = words.fold(Difference::NONE, |sum, word| sum.plus(u32::from_ne_bytes(*word)));
        let [check_high, check_low] = sum.alone();
        let [_, _, _, _, _, _, _, _, _, _, first, second, ..] = header;
        (*first, *second) = (check_high, check_low);
    }

    #[inline(always)]
    fn pseudo_header(_: &V4, _: &V4, _: u32) -> Difference {
        Difference::NONE
    }

    #[inline(always)]
    fn rewrite<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        source: &V4,
        destination: &V4,
        hops: u8,
    ) -> Result<Difference, WriteError> {
        let header = packet.header::<HEADER>(at).ok_or(WriteError)?;
        let (old_source, old_destination) = addresses(header);
        let pseudo_header = Difference::NONE
            .word(word(&old_source), word(source))
            .word(word(&old_destination), word(destination))
            .short();
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
