//! The slow path: fragments, IPv6 extension headers, echo requests and ICMP errors. Such packets are
//! few, so this is a function of its own in the kernel, and XDP leaves them to TC.

use lb_common::outcome::Outcome;

use crate::fragments;
use crate::hook::Hook;
use crate::icmp::{reply, translate};
use crate::packet::Packet;
use crate::packet_state::PacketState;
use crate::wire::{IpVersion, Part};
use crate::world::World;

/// Bytes of a frame that may have to be read: a header with options, an ICMP header, and as much
/// again of the packet that it is about.
const READABLE: u32 = 256;

/// Whether the slow path takes a packet whose parsing ended so.
#[inline(always)]
pub(crate) const fn takes(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::PassedFragment
            | Outcome::PassedExtensionHeader
            | Outcome::PassedEcho
            | Outcome::PassedIcmpError
    )
}

/// Parses a packet whose fast parsing ended with `parsed`.
///
/// # Errors
/// The end of its walk; or what [`icmp`] takes. Otherwise it is walked as any other packet.
#[inline(never)]
pub(crate) fn parse<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
    parsed: Outcome,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    packet.pull(READABLE);
    state.fragmented.hook_point = hook.point as u8;
    if !matches!(parsed, Outcome::PassedFragment | Outcome::PassedExtensionHeader) {
        return Err(parsed);
    }
    let PacketState { headers, fragmented, extent, .. } = state;
    match V::parse_all(packet, headers, fragmented, extent) {
        Ok(Part::Whole) => Ok(()),
        Ok(Part::First) => fragments::first(state, packet, world, hook),
        Ok(Part::Later) => fragments::later(state, packet, world, hook),
        Err(outcome) => Err(outcome),
    }
}

/// Whether a packet whose parsing ended so is an echo request or an ICMP error.
#[inline(always)]
pub(crate) const fn is_icmp(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::PassedEcho | Outcome::PassedIcmpError)
}

/// Walks an echo request or an ICMP error. What it calls are functions of their own in the kernel, one after the other,
/// for the stack.
#[inline(always)]
pub(crate) fn icmp<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
    parsed: Outcome,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    if matches!(parsed, Outcome::PassedEcho) {
        reply::echo::<V, P, W>(state, packet, world, hook)
    } else {
        translate::translate::<V, P, W>(state, packet, world, hook)
    }
}
