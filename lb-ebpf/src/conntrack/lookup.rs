//! Finds the conntrack entry of a packet, or creates one for a new flow.

use lb_common::address::{Address, Tuple};
use lb_common::conntrack::{HookPoint, State};
use lb_common::filter;
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;

use super::create;
use super::state::{check_hook, evict_stale_reply, is_stale, remove_flow, update_state};
use crate::backend_select;
use crate::hook::Hook;
use crate::ip_policy::classify_non_service;
use crate::packet_state::PacketState;
use crate::world::{Table, World};

/// Reads the packet's entry into `state.entry`; a packet that begins a flow gets a new one.
///
/// # Errors
/// The outcome of a packet that is not translated here.
#[inline(always)]
pub(crate) fn lookup_or_begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    if !world.lookup_and_touch(Table::Established, &state.headers.tuple, &mut state.entry) {
        return lookup_miss(state, world, hook);
    }
    check_hook(state, hook)?;
    if is_stale(state, world) {
        remove_flow(state, world, Table::Established);
        return lookup_miss(state, world, hook);
    }
    update_state(state, world, Table::Established);
    Ok(())
}

/// A packet of no established flow. Most are not addressed to a Service, which two bits of the filter
/// and a mask show; once one of them has shown otherwise the rest are not asked.
#[inline(always)]
fn lookup_miss<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    let Tuple { source, source_port, destination, destination_port, protocol, .. } =
        &state.headers.tuple;
    let to_service = matches!(hook.point, HookPoint::Ingress)
        && (world.filter_matches(filter::position(destination, *destination_port, *protocol))
            || world.in_service_ranges(destination));
    if !to_service && !world.filter_matches(filter::position(source, *source_port, *protocol)) {
        return Err(Outcome::PassedNotAService);
    }
    begin_or_half_open(state, world, hook, to_service)
}

/// A packet of no established flow that may be a Service's. Few are, so this is a function of its own
/// in the kernel: the BPF stack holds what it needs only then, and the path of all other packets has
/// no call in it. It returns a single word, as BPF functions must.
#[inline(never)]
fn begin_or_half_open<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
    to_service: bool,
) -> Result<(), Outcome> {
    if world.lookup_and_touch(Table::HalfOpen, &state.headers.tuple, &mut state.entry) {
        check_hook(state, hook)?;
        if !is_stale(state, world) && advance_half_open(state, world)? {
            return Ok(());
        }
        remove_flow(state, world, Table::HalfOpen);
    }
    if to_service { begin(state, world, hook) } else { Err(Outcome::PassedNotAService) }
}

/// A packet of a half-open flow. Returns whether the flow can go on; if another flow has its reply
/// tuple, it must begin again.
#[inline(always)]
fn advance_half_open<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Result<bool, Outcome> {
    let confirmed = state.entry.state.has(State::REPLIED) && !state.headers.flags.opens();
    if !state.entry.is_reply() && confirmed {
        if create::establish(world, state).is_ok() {
            update_state(state, world, Table::Established);
            return Ok(true);
        }
        state.conntrack_full = true;
    } else if !state.entry.is_reply() && !create::restore_reply_entry(world, state)? {
        return Ok(false);
    }
    update_state(state, world, Table::HalfOpen);
    Ok(true)
}

/// A packet of no known flow to what may be a Service.
#[inline(always)]
fn begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    let tuple = &state.headers.tuple;
    state.frontend = Frontend::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let Some(row) = world.frontend(&state.frontend) else {
        if state.headers.flags.opens() {
            evict_stale_reply(state, world);
        }
        let destination = &state.headers.tuple.destination;
        return Err(classify_non_service(world, &mut state.selection, destination));
    };
    let (id, backend) = backend_select::backend(
        world,
        &mut state.selection,
        &state.headers.tuple,
        &row,
        hook.class,
    )?;
    create::create(world, hook, state, id, &backend)
}
