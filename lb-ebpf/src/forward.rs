//! Sends a packet on as its conntrack entry says.

use lb_common::address::Address;
use lb_common::outcome::Outcome;

use crate::from_host;
use crate::hook::Hook;
use crate::next_hop::{is_too_big, set_link_addresses};
use crate::packet::Packet;
use crate::packet_state::PacketState;
use crate::rewrite;
use crate::wire::IpVersion;
use crate::world::{FibResult, Use, World};

/// Rewrites the packet and counts it.
///
/// # Errors
/// The outcome of a packet that could not be sent.
#[inline(always)]
pub(crate) fn forward<V, P, W>(
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
    let length = packet.length();
    if state.entry.is_snat() {
        forward_snat::<V, P, W>(state, packet, world)?;
    } else {
        let is_routed_here = state.entry.is_from_host() && !state.entry.is_hairpin();
        if is_routed_here && hook.is_egress() {
            from_host::send(state, packet, world)?;
        }
        rewrite::tuple::<V, P>(packet, &state.headers, &state.entry.rewritten, 0)?;
        if state.entry.is_hairpin() {
            rewrite::swap_link_addresses(packet)?;
        } else if hook.is_egress() {
            if !state.entry.is_from_pod() && !is_routed_here && world.routes_by_source() {
                reroute(state, packet, world);
            }
            set_link_addresses(state, packet)?;
        } else {
            state.is_unrouted = is_routed_here;
        }
    }
    if !state.entry.is_direct() {
        world.count_packet(state.entry.backend, state.entry.is_reply(), u64::from(length));
    }
    Ok(())
}

/// Sends a reply that the stack has routed by the backend's address where one from the frontend's address belongs:
/// rules for that address (`ip rule from`) may name another device. What would not fit there goes where the stack has
/// sent it: nothing cuts it, or tells its sender, after this. A function of its own in the kernel, for few nodes have
/// such rules.
#[inline(never)]
fn reroute<A: Address, P: Packet + ?Sized, W: World<A>>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
) {
    let (source, destination) = (state.entry.rewritten.source, state.entry.rewritten.destination);
    // Without a route it goes where the stack has sent it.
    if let FibResult::Found(next_hop) = world.fib_lookup(&source, &destination, Use::Send)
        && !world.is_at(next_hop.device)
        && (next_hop.mtu == 0 || !is_too_big(&state.headers, packet, next_hop.mtu))
    {
        state.is_rerouted = true;
        state.set_next_hop(&next_hop);
    }
}

/// The same for packets that leave at once, as a router would forward them.
#[inline(always)]
fn forward_snat<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    lookup_next_hop(state, world)?;
    if state.mtu != 0 && is_too_big(&state.headers, packet, state.mtu) {
        return Err(Outcome::RejectedFragNeeded);
    }
    rewrite::tuple::<V, P>(packet, &state.headers, &state.entry.rewritten, 1)?;
    set_link_addresses(state, packet)
}

/// Looks up the next hop of the entry's new destination.
///
/// # Errors
/// The outcome of a packet that cannot be routed.
#[inline(always)]
pub(crate) fn lookup_next_hop<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Result<(), Outcome> {
    let purpose = if state.headers.flags.is_handshake() { Use::SendAlone } else { Use::Send };
    // Before the client's address is translated, as the kernel does; after that of a reply is, so that rules for the
    // address that the client knows (`ip rule from`) send it the way that the request came.
    let source = if state.entry.is_reply() {
        state.entry.rewritten.source
    } else {
        state.headers.tuple.source
    };
    let destination = &state.entry.rewritten.destination;
    let next_hop = world.fib_lookup(&source, destination, purpose).next_hop()?;
    if state.headers.hops <= 1 {
        return Err(Outcome::RejectedTtlExpired);
    }
    state.set_next_hop(&next_hop);
    Ok(())
}
