//! Which packets may be of a flow, or begin one: the filter is asked before any look-up.

use lb_common::address::{Address, Protocol, Tuple};
use lb_common::conntrack::HookPoint;
use lb_common::filter;
use lb_common::outcome::Outcome;

use super::own;
use crate::hook::Hook;
use crate::packet_state::PacketState;
use crate::world::World;

/// Whether a packet may be of a flow's client, or begin a flow, by its destination: a frontend, or, on its way in, a
/// backend, to which it may be sent directly. On its way out that is so of this node's own packets alone: what others
/// send is translated on its way in.
#[inline(always)]
pub(super) fn may_be_to_service<A: Address, W: World<A>>(
    state: &PacketState<A>,
    world: &W,
    hook: Hook,
) -> bool {
    let Tuple { destination, destination_port, protocol, .. } = &state.headers.tuple;
    let is_to_frontend =
        world.filter_matches(filter::frontend(destination, *destination_port, *protocol))
            || world.in_service_ranges(destination);
    if hook.is_egress() {
        return is_to_frontend && world.is_own_packet();
    }
    is_to_frontend
        || world.filter_matches(filter::backend(destination, *destination_port, *protocol))
}

/// Whether a packet may be a reply of a flow's backend, by its source: on its way out, or, with SNAT and as a
/// hairpin, in.
#[inline(always)]
pub(super) fn may_be_from_backend<A: Address, W: World<A>>(
    state: &PacketState<A>,
    world: &W,
) -> bool {
    let Tuple { source, source_port, protocol, .. } = &state.headers.tuple;
    world.filter_matches(filter::backend(source, *source_port, *protocol))
}

/// The outcome of a packet that is of no flow and begins none. One that leaves may be the node's own.
#[inline(always)]
pub(super) fn pass<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Outcome {
    let Tuple { source, source_port, protocol, .. } = &state.headers.tuple;
    if matches!(hook.point, HookPoint::Egress)
        && *protocol == Protocol::UDP
        && world.filter_matches(filter::frontend(source, *source_port, *protocol))
    {
        if world.hands_over() {
            // Whose flow it is, the programs of the next release know.
            return Outcome::PassedHandedOver;
        }
        own::note(state, world)
    } else {
        Outcome::PassedNotAService
    }
}
