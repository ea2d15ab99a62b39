//! The life of a flow's two entries: which hook they apply at, how its packets change their state,
//! when they are stale, and their removal.

use lb_common::address::{Address, Protocol};
use lb_common::conntrack::State;
use lb_common::outcome::Outcome;

use crate::hook::Hook;
use crate::packet_state::PacketState;
use crate::world::{Table, World};

/// Whether this hook is where packets of the entry are translated.
///
/// # Errors
/// The outcome of a packet that is left to another hook.
#[inline(always)]
pub(crate) fn check_hook<A: Address>(state: &PacketState<A>, hook: Hook) -> Result<(), Outcome> {
    if state.entry.hook_point() != hook.point {
        Err(Outcome::PassedOtherHook)
    } else if !hook.can_pass_to_stack && !state.entry.is_snat() {
        Err(Outcome::PassedLeftToTc)
    } else {
        Ok(())
    }
}

/// Whether this packet must not follow the entry but begin a new flow: its connection has ended, or
/// its backend no longer serves and nothing is lost by moving.
#[inline(always)]
pub(super) fn is_stale<A: Address, W: World<A>>(state: &PacketState<A>, world: &W) -> bool {
    let may_move = state.headers.flags.opens() || state.headers.tuple.protocol == Protocol::UDP;
    if state.entry.is_reply() || !may_move {
        return false;
    }
    if state.entry.state.is_over() {
        return true;
    }
    match world.backend(state.entry.backend) {
        Some(row) => row.generation != state.entry.generation || !row.is_serving(),
        None => true,
    }
}

/// Applies the packet's flags to the state of both entries.
#[inline(always)]
pub(super) fn update_state<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    table: Table,
) {
    let before = match table {
        Table::Established => state.entry.state.with(State::ESTABLISHED),
        Table::HalfOpen => state.entry.state,
    };
    let is_reply = state.entry.is_reply();
    let mut after = if is_reply { before.with(State::REPLIED) } else { before };
    if state.headers.flags.resets() {
        after = after.with(State::RST);
    } else {
        // A reset after which either side goes on was forged, or came late.
        after = after.without(State::RST);
        if state.headers.flags.closes() {
            after = after.with(if is_reply { State::FIN_BACKEND } else { State::FIN_CLIENT });
        }
    }
    if after != before {
        state.reply_tuple = state.entry.other_key();
        world.set_state(table, &state.headers.tuple, after);
        world.set_state(table, &state.reply_tuple, after);
    }
}

/// Removes both entries of the packet's flow.
#[inline(always)]
pub(super) fn remove_flow<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    table: Table,
) {
    state.reply_tuple = state.entry.other_key();
    state.reply_entry.rewritten = state.headers.tuple.reversed();
    world.remove(table, &state.headers.tuple);
    if world.has_mapping(table, &state.reply_tuple, &state.reply_entry.rewritten) {
        world.remove(table, &state.reply_tuple);
    }
}

/// Removes the flow whose entry under `reply_tuple` was read into `reply_entry`.
#[inline(always)]
pub(super) fn remove_reply_flow<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    table: Table,
) {
    world.remove(table, &state.reply_tuple);
    let rewritten = state.reply_tuple.reversed();
    state.reply_tuple = state.reply_entry.other_key();
    state.reply_entry.rewritten = rewritten;
    if world.has_mapping(table, &state.reply_tuple, &state.reply_entry.rewritten) {
        world.remove(table, &state.reply_tuple);
    }
}

/// A client connects to a backend directly. The reply entry of an earlier connection through the
/// Service would translate the backend's replies: it is removed, unless that connection lives.
#[inline(always)]
pub(super) fn evict_stale_reply<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) {
    state.reply_tuple = state.headers.tuple.reversed();
    if world.lookup(Table::HalfOpen, &state.reply_tuple, &mut state.reply_entry) {
        remove_reply_flow(state, world, Table::HalfOpen);
    }
    if world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry)
        && state.reply_entry.state.is_over()
    {
        remove_reply_flow(state, world, Table::Established);
    }
}
