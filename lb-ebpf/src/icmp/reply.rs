//! ICMP messages of this node to the sender of a packet: errors (RFC 792, RFC 1812 section 4.3.2;
//! RFC 4443 section 3) and echo replies.

use bytemuck::Zeroable;
use lb_common::address::{Address, Family};
use lb_common::outcome::Outcome;

use crate::checksum::Difference;
use crate::hook::Hook;
use crate::ip_policy::is_unallocated;
use crate::packet::{LINK_HEADER, Packet, QUOTED, TransportChecksum, WriteError};
use crate::packet_state::PacketState;
use crate::rewrite;
use crate::wire::icmp::ErrorKind;
use crate::wire::{IpVersion, OWN_HOP_LIMIT, icmp};
use crate::world::{RateLimit, World};

/// Replaces a packet that ended with `outcome` by the ICMP error that says so, to its sender. Returns
/// the outcome to count: not every packet gets an error.
#[inline(never)]
pub(crate) fn reject<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
    outcome: Outcome,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    // RFC 1812, 4.3.2.7: never about a fragment other than the first, and never to no address.
    let to = state.headers.tuple.source;
    if state.headers.is_later_fragment() || to.is_unspecified() {
        return Outcome::DroppedIcmpSuppressed;
    }
    let (kind, limit, own) = if matches!(outcome, Outcome::RejectedFragNeeded) {
        (ErrorKind::FragNeeded, RateLimit::PathMtu, world.own_address())
    } else if matches!(outcome, Outcome::RejectedTtlExpired) {
        (ErrorKind::TimeExceeded, RateLimit::TimeExceeded, world.own_address())
    } else {
        (ErrorKind::PortUnreachable, RateLimit::Rejection, V::Address::zeroed())
    };
    if !world.allow(limit) {
        return Outcome::DroppedIcmpSuppressed;
    }
    // From the address that the packet was sent to, unless it is this node that cannot forward it. Its own stack takes
    // no packet from its own address.
    let from = if own.is_unspecified() || hook.is_egress() {
        state.headers.tuple.destination
    } else {
        own
    };
    match write_error::<V, P>(state, packet, (from, to), kind) {
        Ok(()) => outcome,
        Err(WriteError) => Outcome::DroppedWriteError,
    }
}

/// Makes the packet an ICMP error about itself, to its sender.
#[inline(always)]
fn write_error<V: IpVersion, P: Packet + ?Sized>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    (from, to): (V::Address, V::Address),
    kind: ErrorKind,
) -> Result<(), WriteError> {
    let whole = packet.length().saturating_sub(LINK_HEADER as u32);
    let quoted = if whole < QUOTED { whole } else { QUOTED };
    let (headers, length) = (V::HEADER + icmp::HEADER, icmp::HEADER as u32 + quoted);
    let message = &mut state.icmp;
    message.clear();
    packet.copy(LINK_HEADER, quoted, &mut message.bytes, headers)?;
    V::write_header(&mut message.bytes, &from, &to, length);
    icmp::write_header::<V>(&mut message.bytes, kind, state.mtu);
    let sum = message.sum(V::HEADER).and(V::pseudo_header(&from, &to, length));
    icmp::set_checksum::<V>(&mut message.bytes, sum);
    packet.replace(&message.bytes, headers as u32 + quoted)?;
    rewrite::swap_link_addresses(packet)
}

/// Replies to an echo request to a Service's address, which no host has.
#[inline(never)]
pub(crate) fn echo<V, P, W>(
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
    if hook.is_egress() && !world.is_own_packet() {
        return Outcome::PassedEcho;
    }
    let to = state.headers.tuple.destination;
    match world.ip_policy(&to) {
        Some(policy) if policy.replies_to_echo() => {}
        Some(_) => return Outcome::PassedEcho,
        None if is_unallocated(world, &mut state.selection, &to) => {
            return Outcome::DroppedUnallocatedAddress;
        }
        None => return Outcome::PassedEcho,
    }
    if !world.allow(RateLimit::EchoReply) {
        return Outcome::DroppedIcmpSuppressed;
    }
    match write_echo_reply::<V, P>(state, packet) {
        Ok(()) => Outcome::EchoReplied,
        Err(WriteError) => Outcome::DroppedWriteError,
    }
}

#[inline(always)]
fn write_echo_reply<V: IpVersion, P: Packet + ?Sized>(
    state: &PacketState<V::Address>,
    packet: &mut P,
) -> Result<(), WriteError> {
    let (family, offset) = (V::Address::FAMILY, state.headers.transport());
    let (from, to) = (state.headers.tuple.destination, state.headers.tuple.source);
    // The addresses are swapped, which leaves every sum as it is.
    let hops = state.headers.hops.wrapping_sub(OWN_HOP_LIMIT);
    V::rewrite(packet, LINK_HEADER, &from, &to, hops)?;
    let segment = icmp::make_reply(packet, family, offset).ok_or(WriteError)?;
    packet.update(TransportChecksum {
        offset: offset + icmp::CHECKSUM,
        zero_is_none: false,
        pseudo_header: Difference::NONE,
        segment,
        is_v6: matches!(family, Family::V6),
    })?;
    rewrite::swap_link_addresses(packet)
}
