//! Translates ICMP errors about translated packets: their destination, and the packet that they quote,
//! follow that packet's conntrack entry, so that path MTU discovery, traceroute and refusals work
//! through a Service.

use lb_common::address::{Address, Family, Protocol};
use lb_common::outcome::{Disposition, Outcome};

use crate::checksum::Difference;
use crate::conntrack::state::check_hook;
use crate::forward::lookup_next_hop;
use crate::hook::Hook;
use crate::next_hop::set_link_addresses;
use crate::packet::{LINK_HEADER, Packet, TransportChecksum, WriteError};
use crate::packet_state::PacketState;
use crate::rewrite;
use crate::wire::icmp::Quote;
use crate::wire::{
    IpVersion, MAX_TRANSPORT_OFFSET, QUOTED_TRANSPORT, checksum_offset, icmp, set_ports,
};
use crate::world::{Table, World};

/// Translates an error as the flow of the packet that it quotes is translated. An error travels in the
/// opposite direction, hence as that packet's replies do.
#[inline(always)]
pub(crate) fn translate<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    if !find_flow::<V, P, W>(state, packet, world) {
        // The packet that it quotes may be of a flow that another release knows.
        return if world.hands_over() {
            Outcome::PassedHandedOver
        } else {
            Outcome::PassedIcmpError
        };
    }
    match translate_and_send::<V, P, W>(state, packet, world, hook) {
        Ok(()) if state.entry.is_reply() => Outcome::RepliedIcmpError,
        Ok(()) => Outcome::ForwardedIcmpError,
        // RFC 1812, 4.3.2.7: no error is sent about an error.
        Err(outcome) if matches!(outcome.disposition(), Disposition::IcmpReplied) => {
            Outcome::DroppedIcmpSuppressed
        }
        Err(outcome) => outcome,
    }
}

/// Finds the entry of the replies of the packet that the error quotes. Returns whether there is one by which anything
/// changes.
#[inline(never)]
fn find_flow<V, P, W>(state: &mut PacketState<V::Address>, packet: &mut P, world: &W) -> bool
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    let ip = state.headers.transport() + icmp::HEADER;
    let Some(end) = V::end(packet) else { return false };
    let Some(transport) = V::parse_quoted(packet, ip, &mut state.quoted) else { return false };
    state.quote = Quote { ip, transport, end };
    if !state.quote.holds(QUOTED_TRANSPORT) {
        return false;
    }
    state.reply_tuple = state.quoted.reversed();
    if !world.lookup(Table::Established, &state.reply_tuple, &mut state.entry)
        && !world.lookup(Table::HalfOpen, &state.reply_tuple, &mut state.entry)
    {
        return false;
    }
    // Of a direct flow, or one of the node's own: there is nothing to change.
    state.entry.rewritten != state.reply_tuple
}

#[inline(never)]
fn translate_and_send<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    check_hook(state, hook)?;
    // These offsets were written by [`find_flow`]; the masks say their bounds once more, for the verifier.
    let Quote { ip, transport, end } = state.quote;
    let within = 2 * MAX_TRANSPORT_OFFSET - 1;
    let quote = Quote { ip: ip & within, transport: transport & within, end };
    if state.entry.is_snat() {
        lookup_next_hop(state, world)?;
        rewrite_error::<V, P>(state, packet, quote, 1)?;
        return set_link_addresses(state, packet);
    }
    // A router's error comes in by the device that leads to that router.
    state.is_unrouted = state.entry.is_from_host()
        && !state.entry.is_hairpin()
        && (hook.is_egress() || state.headers.tuple.source == state.reply_tuple.source);
    rewrite_error::<V, P>(state, packet, quote, 0)?;
    if state.entry.is_hairpin() {
        rewrite::swap_link_addresses(packet)?;
    }
    Ok(())
}

/// Rewrites the quoted packet to what its sender sent, and the destination to that sender.
#[inline(always)]
fn rewrite_error<V: IpVersion, P: Packet + ?Sized>(
    state: &PacketState<V::Address>,
    packet: &mut P,
    quote: Quote,
    hops: u8,
) -> Result<(), WriteError> {
    let reply = &state.entry.rewritten;
    let inner = V::rewrite(packet, quote.ip, &reply.destination, &reply.source, 0)?;
    let ports = set_ports(packet, quote.transport, reply.destination_port, reply.source_port)?;
    let segment = inner.and(ports);
    let check = quoted_checksum(packet, quote, reply.protocol, segment);
    // A header that carries its own checksum has the same sum before and after.
    let changed = match V::Address::FAMILY {
        Family::V4 => ports.and(check),
        Family::V6 => segment.and(check),
    };
    let outer = V::rewrite(packet, LINK_HEADER, &sender::<V>(state), &reply.destination, hops)?;
    packet.update(TransportChecksum {
        offset: state.headers.transport() + icmp::CHECKSUM,
        zero_is_none: false,
        pseudo_header: match V::Address::FAMILY {
            Family::V4 => Difference::NONE,
            Family::V6 => outer,
        },
        segment: changed,
        is_v6: matches!(V::Address::FAMILY, Family::V6),
    })
}

/// The source of the translated error: for an error of the backend or client itself, its translated
/// address. The address of a router in between is kept, unless the packet leaves with this node's own
/// address, where it would fail the reverse path filter.
#[inline(always)]
fn sender<V: IpVersion>(state: &PacketState<V::Address>) -> V::Address {
    let from = state.headers.tuple.source;
    if from == state.reply_tuple.source || state.entry.is_snat() {
        state.entry.rewritten.source
    } else {
        from
    }
}

/// Lets the quoted packet's own checksum follow, if the quote is long enough to hold it; returns what
/// has changed by that.
#[inline(always)]
fn quoted_checksum<P: Packet + ?Sized>(
    packet: &mut P,
    quote: Quote,
    protocol: Protocol,
    difference: Difference,
) -> Difference {
    if protocol == Protocol::SCTP || !quote.holds(checksum_offset(protocol) + 2) {
        return Difference::NONE;
    }
    let offset = (quote.transport & (2 * MAX_TRANSPORT_OFFSET - 1)) + checksum_offset(protocol);
    let Some(field) = packet.header::<2>(offset) else { return Difference::NONE };
    let before = *field;
    *field = if protocol == Protocol::UDP {
        difference.applied_to_udp(before)
    } else {
        difference.applied_to(before)
    };
    Difference::NONE.half(u16::from_ne_bytes(before), u16::from_ne_bytes(*field))
}
