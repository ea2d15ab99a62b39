//! Changing a packet: addresses, ports, hop limit, checksums, link addresses.

use lb_common::address::{Address, Family, Protocol, Tuple};

use crate::packet::{LINK_HEADER, Packet, TransportChecksum, WriteError};
use crate::wire::{Headers, IpVersion, checksum_offset, replace_ports, sctp, set_ports};
use crate::world::Link;

/// Rewrites the packet to `tuple`, and takes `hops` from its TTL or hop limit.
///
/// # Errors
/// The packet could not be changed; it may be half changed, and must be dropped.
#[inline(always)]
pub fn tuple<V: IpVersion, P: Packet + ?Sized>(
    packet: &mut P,
    headers: &Headers<V::Address>,
    tuple: &Tuple<V::Address>,
    hops: u8,
) -> Result<(), WriteError> {
    let pseudo_header = V::rewrite(packet, LINK_HEADER, &tuple.source, &tuple.destination, hops)?;
    if headers.is_later_fragment() {
        return Ok(());
    }
    if tuple.protocol == Protocol::SCTP {
        return sctp_ports::<V, P>(packet, headers, tuple);
    }
    let segment =
        set_ports(packet, headers.transport(), tuple.source_port, tuple.destination_port)?;
    packet.update(TransportChecksum {
        offset: headers.transport() + checksum_offset(tuple.protocol),
        zero_is_none: tuple.protocol == Protocol::UDP,
        pseudo_header,
        segment,
        is_v6: matches!(V::Address::FAMILY, Family::V6),
    })
}

/// Sets both ports of an SCTP packet.
#[inline(never)]
fn sctp_ports<V: IpVersion, P: Packet + ?Sized>(
    packet: &mut P,
    headers: &Headers<V::Address>,
    tuple: &Tuple<V::Address>,
) -> Result<(), WriteError> {
    let offset = headers.transport();
    let end = V::end(packet).ok_or(WriteError)?;
    let (before, after) = replace_ports(packet, offset, tuple.source_port, tuple.destination_port)?;
    let length = end.saturating_sub(offset as u32);
    sctp::update_checksum(packet, offset, length, (before ^ after).to_le())
}

/// Sets the link addresses of a frame to a next hop, if it has any.
///
/// # Errors
/// The header is not there.
#[inline(always)]
pub fn link<P: Packet + ?Sized>(packet: &mut P, link: &Link) -> Result<(), WriteError> {
    if !P::HAS_LINK_HEADER {
        return Ok(());
    }
    let addresses = packet.header::<12>(0).ok_or(WriteError)?;
    for (bytes, word) in addresses.as_chunks_mut().0.iter_mut().zip(link.0) {
        *bytes = word.to_ne_bytes();
    }
    Ok(())
}

/// Sends the frame back to where it came from, if it says where that is.
///
/// # Errors
/// The header is not there.
#[inline(always)]
pub fn swap_link_addresses<P: Packet + ?Sized>(packet: &mut P) -> Result<(), WriteError> {
    if !P::HAS_LINK_HEADER {
        return Ok(());
    }
    let addresses = packet.header::<12>(0).ok_or(WriteError)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *addresses;
    *addresses = [g, h, i, j, k, l, a, b, c, d, e, f];
    Ok(())
}
