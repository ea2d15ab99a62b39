//! IPv6, RFC 8200.

use lb_common::address::{Address, Protocol, V6};
use lb_common::outcome::Outcome;

use super::{Headers, IpVersion, read_transport};
use crate::checksum::Difference;
use crate::packet::{LINK_HEADER, Packet, Unwritable};

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

/// IPv6.
pub struct Ipv6;

impl IpVersion for Ipv6 {
    type Address = V6;

    #[inline(always)]
    fn read<P: Packet + ?Sized>(packet: &mut P, headers: &mut Headers<V6>) -> Result<(), Outcome> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Outcome::Malformed)?;
        let [first, _, _, _, _, _, next_header, hops, ..] = *header;
        if first >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        match next_header {
            FRAGMENT => return Err(Outcome::Fragment),
            HOP_BY_HOP | ROUTING | AUTHENTICATION | DESTINATION_OPTIONS => {
                return Err(Outcome::ExtensionHeader);
            }
            _ => {}
        }
        (headers.tuple.source, headers.tuple.destination) = addresses(header);
        headers.hops = hops;
        read_transport(packet, headers, Protocol(next_header), LINK_HEADER + HEADER)
    }

    #[inline(always)]
    fn write<P: Packet + ?Sized>(
        packet: &mut P,
        source: &V6,
        destination: &V6,
        hops: u8,
    ) -> Result<Difference, Unwritable> {
        let header = packet.header::<HEADER>(LINK_HEADER).ok_or(Unwritable)?;
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
