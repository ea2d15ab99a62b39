//! This node's own packets: they are translated where they leave the stack, by the device of the route to the frontend,
//! and their replies where they come in. What lies between, the socket, netfilter and the reverse path filter, sees the
//! frontend in both directions, by that one device.

use lb_common::address::Address;
use lb_common::outcome::Outcome;

use crate::hook::Hook;
use crate::next_hop::{is_too_big, set_link_addresses};
use crate::packet::Packet;
use crate::packet_state::PacketState;
use crate::world::{FibResult, Use, World};

/// Finds the way of a packet that has been rewritten, at the end of its walk, where the stack is least deep in the kernel:
/// of one that leaves, to its new destination; of one to this node itself, into the stack.
///
/// # Errors
/// The outcome of a packet that has no way, or could not be changed.
#[inline(always)]
pub(crate) fn route<A: Address, P: Packet + ?Sized, W: World<A>>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    if hook.is_egress() {
        send(state, packet, world)?;
        set_link_addresses(state, packet)
    } else {
        deliver(state, packet, world)
    }
}

/// Finds the way to the backend, and whether the packet is too large for it. A function of its own in the kernel, as is
/// the next, for the stack.
///
/// # Errors
/// The outcome of a packet that cannot be sent.
#[inline(never)]
pub(crate) fn send<A: Address, P: Packet + ?Sized, W: World<A>>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome> {
    let (source, destination) = (&state.headers.tuple.source, &state.entry.rewritten.destination);
    let next_hop = world.fib_lookup(source, destination, Use::SendOwn).next_hop()?;
    state.set_next_hop(&next_hop);
    state.is_rerouted = !state.has_link || !world.is_at(next_hop.device);
    if state.mtu != 0 && is_too_big(&state.headers, packet, state.mtu) {
        return Err(Outcome::RejectedFragNeeded);
    }
    Ok(())
}

/// By the device that leads to the frontend, as its next hop would have sent it. Without one the frontend is at an
/// address of this node, and the packet stays where it is.
#[inline(never)]
fn deliver<A: Address, P: Packet + ?Sized, W: World<A>>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome> {
    let (own, peer) = (&state.entry.rewritten.destination, &state.entry.rewritten.source);
    if let FibResult::Found(next_hop) = world.fib_lookup(own, peer, Use::OwnSource)
        && !world.is_at(next_hop.device)
    {
        state.is_rerouted = true;
        state.set_next_hop(&next_hop);
        state.link = state.link.reversed();
    }
    set_link_addresses(state, packet)
}
