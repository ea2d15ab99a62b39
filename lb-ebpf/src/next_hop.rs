//! What a packet's next hop asks of it: its size, and the link addresses.

use lb_common::address::{Address, Protocol};
use lb_common::outcome::Outcome;

use crate::packet::{LINK_HEADER, Packet};
use crate::packet_state::PacketState;
use crate::rewrite;
use crate::wire::{Headers, UDP_HEADER, tcp_header_length};

/// Whether the packet is larger than `mtu` bytes, or each of those that the kernel will cut it into
/// (`skb_gso_network_seglen`, net/core/gso.c). Of SCTP the kernel cuts what its sender has put together.
#[inline(always)]
pub(crate) fn is_too_big<A: Address, P: Packet + ?Sized>(
    headers: &Headers<A>,
    packet: &mut P,
    mtu: u32,
) -> bool {
    if packet.length() <= mtu + LINK_HEADER as u32 {
        return false;
    }
    let segment = packet.segment();
    if segment == 0 {
        return true;
    }
    let begins = headers.transport();
    let transport = match headers.tuple.protocol {
        Protocol::TCP => tcp_header_length(packet, begins),
        Protocol::UDP => UDP_HEADER,
        _ => return false,
    };
    (begins - LINK_HEADER) as u32 + transport + segment > mtu
}

/// Sets the frame's link addresses to the next hop's, if its neighbour is resolved.
///
/// # Errors
/// The packet could not be changed.
#[inline(always)]
pub(crate) fn set_link_addresses<A: Address, P: Packet + ?Sized>(
    state: &PacketState<A>,
    packet: &mut P,
) -> Result<(), Outcome> {
    if state.has_link { Ok(rewrite::link(packet, &state.link)?) } else { Ok(()) }
}
