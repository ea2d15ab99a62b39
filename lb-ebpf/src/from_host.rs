//! This node's own packets: they are translated where they leave the stack, by the device of the route to the frontend,
//! and their replies where they come in. What lies between, the socket, netfilter and the reverse path filter, sees the
//! frontend in both directions, by that one device.

use lb_common::address::Address;
use lb_common::outcome::Outcome;

use crate::forward::is_too_big;
use crate::packet::Packet;
use crate::packet_state::PacketState;
use crate::rewrite;
use crate::wire::IpVersion;
use crate::world::{FibResult, Use, World};

/// Rewrites a packet of such a flow.
///
/// # Errors
/// The outcome of a packet that could not be sent.
#[inline(always)]
pub(crate) fn forward<V, P, W>(
    state: &mut PacketState<V::Address>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    route(state, packet, world)?;
    rewrite::tuple::<V, P>(packet, &state.headers, &state.entry.rewritten, 0)?;
    set_link::<V, P>(state, packet)
}

/// Finds the way of a packet: for the client's, to the backend; for a reply, the device that leads to the frontend, by
/// which the stack is to get it. What is between this node and itself stays where it is.
///
/// # Errors
/// The outcome of a packet that has no way.
#[inline(never)]
pub(crate) fn route<A: Address, P: Packet + ?Sized, W: World<A>>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome> {
    state.has_link = false;
    if state.entry.is_hairpin() {
        return Ok(());
    }
    let (own, peer) = if state.entry.is_reply() {
        (state.entry.rewritten.destination, state.entry.rewritten.source)
    } else {
        (state.headers.tuple.source, state.entry.rewritten.destination)
    };
    if state.entry.is_reply() {
        // Without a route by a device the frontend is at an address of this node, and the packet stays where it is.
        if let FibResult::Found(next_hop) = world.fib_lookup(&own, &peer, Use::OwnSource)
            && !world.is_at(next_hop.device)
        {
            state.is_rerouted = true;
            state.set_next_hop(&next_hop);
            // As the next hop would have sent it.
            state.link = state.link.reversed();
        }
        return Ok(());
    }
    let next_hop = world.fib_lookup(&own, &peer, Use::SendOwn).next_hop()?;
    state.set_next_hop(&next_hop);
    state.is_rerouted = !state.has_link || !world.is_at(next_hop.device);
    if state.mtu != 0 && is_too_big(&state.headers, packet, state.mtu) {
        return Err(Outcome::RejectedFragNeeded);
    }
    Ok(())
}

/// Sets the frame's link addresses as [`route`] has found them.
///
/// # Errors
/// The packet could not be changed.
#[inline(always)]
pub(crate) fn set_link<V: IpVersion, P: Packet + ?Sized>(
    state: &PacketState<V::Address>,
    packet: &mut P,
) -> Result<(), Outcome> {
    if state.entry.is_hairpin() {
        rewrite::swap_link_addresses(packet)?;
    } else if state.has_link {
        rewrite::link(packet, &state.link)?;
    }
    Ok(())
}
