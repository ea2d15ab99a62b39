//! IPv6, RFC 8200.

use lb_common::address::{Address, Protocol, Tuple, V6};
use lb_common::fragment::Fragmented;
use lb_common::outcome::Outcome;

use super::headers::{Extent, Headers, MAX_TRANSPORT_OFFSET, Part};
use super::ip::{IpVersion, OWN_HOP_LIMIT};
use super::layer4::{parse_quoted_ports, parse_transport, translatable};
use crate::checksum::Difference;
use crate::packet::{COPIED, LINK_HEADER, Packet, WriteError};

/// Bytes of the fixed header.
const HEADER: usize = 40;

/// Next header: hop-by-hop options, RFC 8200, 4.3.
const HOP_BY_HOP: u8 = 0;
/// Next header: routing, RFC 8200, 4.4.
const ROUTING: u8 = 43;
/// Next header: fragment, RFC 8200, 4.5.
const FRAGMENT: u8 = 44;
/// Next header: authentication, RFC 4302.
const AUTHENTICATION: u8 = 51;
/// Next header: destination options, RFC 8200, 4.6.
const DESTINATION_OPTIONS: u8 = 60;

/// Bytes of the shortest extension header, and the unit of their lengths.
const EXTENSION: usize = 8;
/// Extension headers that are read.
const EXTENSION_HEADERS: usize = 6;
/// Where in its packet a fragment stands, in bytes, for the last three bits are masked.
const OFFSET: u16 = 0xfff8;
/// More fragments follow.
const MORE: u16 = 1;

/// IPv6.
pub struct Ipv6;

impl IpVersion for Ipv6 {
    type Address = V6;
    const HEADER: usize = HEADER;

    #[inline(always)]
    fn parse<P: Packet + ?Sized>(packet: &mut P, headers: &mut Headers<V6>) -> Result<(), Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::PassedMalformed)?;
        let [first, _, _, _, _, _, next_header, hops, ..] = *header;
        if first >> 4 != 6 {
            return Err(Outcome::PassedMalformed);
        }
        match next_header {
            FRAGMENT => return Err(Outcome::PassedFragment),
            HOP_BY_HOP | ROUTING | AUTHENTICATION | DESTINATION_OPTIONS => {
                return Err(Outcome::PassedExtensionHeader);
            }
            _ => {}
        }
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        parse_transport::<Self, P>(packet, headers, Protocol(next_header), LINK_HEADER + HEADER)
    }

    #[inline(always)]
    fn parse_all<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<V6>,
        fragmented: &mut Fragmented<V6>,
        extent: &mut Extent,
    ) -> Result<Part, Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::PassedMalformed)?;
        let [_, _, _, _, _, _, next_header, hops, ..] = *header;
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        (fragmented.source, fragmented.destination) = addresses(header);
        let (mut part, mut next, mut at) = (Part::Whole, next_header, LINK_HEADER + HEADER);
        for _ in 0..EXTENSION_HEADERS {
            let length = match next {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT => {
                    extension(packet, at, &mut next, &mut part, fragmented, extent)?
                }
                _ => break,
            };
            if matches!(part, Part::Later) {
                headers.set_later_fragment();
                return Ok(part);
            }
            at += length;
            if at >= MAX_TRANSPORT_OFFSET {
                return Err(Outcome::PassedExtensionHeader);
            }
        }
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT => {
                return Err(Outcome::PassedExtensionHeader);
            }
            _ => {}
        }
        parse_transport::<Self, P>(packet, headers, Protocol(next), at)?;
        translatable(headers, part)
    }

    #[inline(always)]
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        tuple: &mut Tuple<V6>,
    ) -> Option<usize> {
        let header = packet.header::<HEADER>(at)?;
        let [first, _, _, _, _, _, next_header, ..] = *header;
        if first >> 4 != 6 {
            return None;
        }
        (tuple.source, tuple.destination) = addresses(header);
        let (mut protocol, mut transport) = (next_header, at + HEADER);
        if protocol == FRAGMENT {
            let [next, _, high, low, ..] = *packet.header::<EXTENSION>(transport)?;
            if u16::from_be_bytes([high, low]) & OFFSET != 0 {
                return None;
            }
            (protocol, transport) = (next, transport + EXTENSION);
        }
        parse_quoted_ports(packet, tuple, Protocol(protocol), transport)
    }

    #[inline(always)]
    fn end<P: Packet + ?Sized>(packet: &mut P) -> Option<u32> {
        let [_, _, _, _, high, low, ..] = *packet.header::<8>(LINK_HEADER)?;
        Some((LINK_HEADER + HEADER) as u32 + u32::from_be_bytes([0, 0, high, low]))
    }

    #[inline(always)]
    fn write_header(bytes: &mut [u8; COPIED], from: &V6, to: &V6, length: u32) {
        let Some(header) = bytes.first_chunk_mut::<HEADER>() else { return };
        let [.., high, low] = length.to_be_bytes();
        let [first, rest @ ..] = header.as_chunks_mut::<8>().0 else { return };
        *first = [0x60, 0, 0, 0, high, low, Protocol::ICMPV6.0, OWN_HOP_LIMIT];
        let rest: &mut [u8] = rest.as_flattened_mut();
        for (bytes, address) in rest.as_chunks_mut().0.iter_mut().zip([from, to]) {
            *bytes = copied(&address.0);
        }
    }

    #[inline(always)]
    fn pseudo_header(from: &V6, to: &V6, length: u32) -> Difference {
        let ([a, b, c, d], [e, f, g, h]) = (from.words(), to.words());
        let sum = Difference::NONE.plus(a).plus(b).plus(c).plus(d).plus(e).plus(f).plus(g).plus(h);
        sum.plus(length.to_be()).plus(u32::from(Protocol::ICMPV6.0).to_be())
    }

    #[inline(always)]
    fn rewrite<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        source: &V6,
        destination: &V6,
        hops: u8,
    ) -> Result<Difference, WriteError> {
        let header = packet.header::<HEADER>(at).ok_or(WriteError)?;
        let (old_source, old_destination) = addresses(header);
        let [_, _, _, _, _, _, _, hop_limit, rest @ ..] = header;
        *hop_limit = hop_limit.wrapping_sub(hops);
        let rest: &mut [u8; 32] = rest;
        for (bytes, address) in rest.as_chunks_mut().0.iter_mut().zip([source, destination]) {
            *bytes = copied(&address.0);
        }
        Ok(changed(&old_destination, destination, changed(&old_source, source, Difference::NONE)))
    }
}

/// Where the packet ends, by its own header.
#[inline(always)]
fn end_of<P: Packet + ?Sized>(packet: &mut P) -> Result<u32, Outcome> {
    Ipv6::end(packet).ok_or(Outcome::PassedMalformed)
}

/// Reads the extension header at `at`, of the kind that `next` says, which then says what follows.
/// Returns its length in bytes.
#[inline(always)]
fn extension<P: Packet + ?Sized>(
    packet: &mut P,
    at: usize,
    next: &mut u8,
    part: &mut Part,
    fragmented: &mut Fragmented<V6>,
    extent: &mut Extent,
) -> Result<usize, Outcome> {
    let [following, length, high, low, a, b, c, d] =
        *packet.header::<EXTENSION>(at).ok_or(Outcome::PassedMalformed)?;
    let kind = *next;
    *next = following;
    Ok(match kind {
        FRAGMENT => {
            fragmented.identification = u32::from_be_bytes([a, b, c, d]);
            let fragment = u16::from_be_bytes([high, low]);
            let (start, offset) = ((at + EXTENSION) as u32, u32::from(fragment & OFFSET));
            *extent = Extent::of(start, end_of(packet)?, offset, fragment & MORE == 0);
            if fragment & OFFSET != 0 {
                *part = Part::Later;
            } else if fragment & MORE != 0 {
                *part = Part::First;
            }
            EXTENSION
        }
        // RFC 4302, 2.2: in units of four bytes, less two.
        AUTHENTICATION => (usize::from(length) + 2) * 4,
        _ => (usize::from(length) + 1) * EXTENSION,
    })
}

#[inline(always)]
fn changed(old: &V6, new: &V6, difference: Difference) -> Difference {
    let ([a, b, c, d], [e, f, g, h]) = (old.words(), new.words());
    difference.word(a, e).word(b, f).word(c, g).word(d, h)
}

#[inline(always)]
fn addresses(header: &[u8; HEADER]) -> (V6, V6) {
    let [_, _, _, _, _, _, _, _, rest @ ..] = header;
    let rest: &[u8; 32] = rest;
    match rest.as_chunks().0 {
        [source, destination] => (V6(copied(source)), V6(copied(destination))),
        _ => (V6([0; 16]), V6([0; 16])),
    }
}

/// `address`, copied in words: the BPF compiler copies bytes one by one.
#[inline(always)]
const fn copied(address: &[u8; 16]) -> [u8; 16] {
    u128::from_ne_bytes(*address).to_ne_bytes()
}
