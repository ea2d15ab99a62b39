//! Which packets may be of a flow, or begin one: the filter is asked before any look-up.

use lb_common::address::{Address, Protocol, Tuple};
use lb_common::conntrack::HookPoint;
use lb_common::filter;
use lb_common::outcome::Outcome;

use super::own;
use crate::hook::Hook;
use crate::packet_state::PacketState;
use crate::world::World;

/// Whether packets begin flows at this hook, which is known to the compiler and the verifier: those on their way
/// in.
#[inline(always)]
pub(super) const fn begins_flows(hook: Hook) -> bool {
    matches!(hook.point, HookPoint::Ingress)
}

/// Whether a packet on its way in may be of a flow's client, or begin a flow, by its destination: a frontend, or a
/// backend, to which it may be sent directly. One on its way out is neither: what clients send is translated on its
/// way in, and then comes from where nothing is to be looked up.
#[inline(always)]
pub(super) fn may_be_to_service<A: Address, W: World<A>>(
    state: &PacketState<A>,
    world: &W,
    hook: Hook,
) -> bool {
    let Tuple { destination, destination_port, protocol, .. } = &state.headers.tuple;
    begins_flows(hook)
        && (world.filter_matches(filter::frontend(destination, *destination_port, *protocol))
            || world.in_service_ranges(destination)
            || world.filter_matches(filter::backend(destination, *destination_port, *protocol)))
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
        own::note(state, world)
    } else {
        Outcome::PassedNotAService
    }
}
