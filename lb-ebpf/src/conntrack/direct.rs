//! Direct flows: a client sends to a backend's own address and port, not through a Service. The backend's
//! replies look like those of a flow through a Service that comes from the same source port, so each must
//! know of the other: a direct flow has two entries, too, and whichever comes second gets another source
//! port. The entries of most direct flows change nothing.

use lb_common::address::{Address, Protocol};
use lb_common::backend::{Backend, BackendId};
use lb_common::filter;
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;

use crate::hook::Hook;
use crate::ip_policy::classify_non_service;
use crate::packet_state::PacketState;
use crate::world::World;

/// A packet of no known flow that is for no frontend. If it may begin a direct flow, that flow's backend is
/// selected: what the packet is sent to.
///
/// # Errors
/// The outcome of a packet that begins none.
#[inline(always)]
pub(super) fn begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    let to = &state.headers.tuple;
    let outcome = classify_non_service(world, &mut state.selection, &to.destination);
    let begins = state.headers.flags.opens() || to.protocol == Protocol::UDP;
    let position = filter::backend(&to.destination, to.destination_port, to.protocol);
    if hook.is_egress()
        || !matches!(outcome, Outcome::PassedNotAService)
        || !begins
        || !world.filter_matches(position)
    {
        return Err(outcome);
    }
    if !hook.can_pass_to_stack {
        return Err(Outcome::PassedLeftToTc);
    }
    state.entry.backend = BackendId::NONE;
    state.backend = Backend {
        address: to.destination,
        port: to.destination_port,
        protocol: to.protocol,
        ..Backend::empty()
    };
    Ok(())
}

/// Whether the destination of a direct flow's packet is a frontend by now. Then the flow is stale.
#[inline(always)]
pub(super) fn is_to_frontend<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> bool {
    let to = &state.headers.tuple;
    state.frontend = Frontend::new(to.destination, to.destination_port, to.protocol);
    world.frontend(&state.frontend).is_some()
}

/// Ends the walk of a packet of a direct flow that there is nothing to change of.
///
/// # Errors
/// The outcome of such a packet.
#[inline(always)]
pub(super) fn pass_unchanged<A: Address>(state: &PacketState<A>) -> Result<(), Outcome> {
    if !state.entry.is_direct() || state.entry.rewritten != state.headers.tuple {
        Ok(())
    } else if state.conntrack_full {
        Err(Outcome::PassedUntracked)
    } else {
        Err(Outcome::PassedDirect)
    }
}

/// Whether a packet that would begin a direct flow is one of the flow that has its reply tuple: translated at
/// a pod's device, it passes a second one on its way in, a bridge to the network; or this node has sent it to
/// itself. Were it the pod's own packet to the backend itself, it would have begun a direct flow at the pod's device.
#[inline(always)]
pub(super) fn is_translated_packet<A: Address>(state: &PacketState<A>) -> bool {
    let (entry, reply) = (&state.entry, &state.reply_entry);
    let is_from_here = reply.is_from_pod() || reply.is_from_host();
    entry.is_direct() && !entry.is_from_pod() && is_from_here
}

/// The outcome of a failed creation: packets of a direct flow pass all the same.
#[inline(always)]
pub(super) fn untracked<A: Address>(state: &PacketState<A>, outcome: Outcome) -> Outcome {
    let is_lost = !matches!(outcome, Outcome::PassedOtherHook);
    if is_lost && state.entry.is_direct() { Outcome::PassedUntracked } else { outcome }
}
