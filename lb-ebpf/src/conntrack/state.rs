//! The life of a flow's two entries: which hook they apply at, how its packets change their state,
//! when they are stale, and their removal.

use lb_common::address::{Address, Protocol};
use lb_common::conntrack::State;
use lb_common::outcome::Outcome;

use super::direct;
use crate::hook::Hook;
use crate::packet_state::{FoundIn, PacketState};
use crate::wire::Headers;
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
/// its backend no longer serves and nothing is lost by moving. A connection that the backend's side opens
/// ends what is left of an earlier pod's: whoever has that address and port now knows nothing of it.
#[inline(always)]
pub(super) fn is_stale<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) -> bool {
    let is_reply = state.entry.is_reply();
    let may_move =
        state.headers.flags.opens() || !is_reply && state.headers.tuple.protocol == Protocol::UDP;
    if !may_move {
        return false;
    }
    if state.entry.state.is_over() {
        return true;
    }
    if state.entry.is_direct() {
        return !is_reply && direct::is_to_frontend(state, world);
    }
    match world.backend(state.entry.backend) {
        Some(row) => !row.is_of(state.entry.generation) || !row.is_serving(),
        None => true,
    }
}

/// Bytes that a RST's sequence number may be ahead of what its receiver has acknowledged, as far as
/// conntrack knows: `EXPECTED_STEP`, and what is under way.
const RESET_WINDOW: u32 = 256 << 10;

/// Ticks after a RST in which what was under way may still arrive. What comes later shows that the RST
/// was ignored.
const RESET_SETTLED: u8 = 2;

/// Applies the packet's flags to the state of both entries. Few packets change anything, so this is a
/// function of its own in the kernel, whose stack the path of the others does not need.
#[inline(never)]
pub(super) fn update_state<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) {
    let table = match state.found_in {
        FoundIn::Established => Table::Established,
        FoundIn::HalfOpen => Table::HalfOpen,
        FoundIn::Neither => return,
    };
    let before = state.entry.state;
    let is_reply = state.entry.is_reply();
    let mut after = if is_reply { before.with(State::REPLIED) } else { before };
    if state.headers.flags.resets() {
        if !before.has(State::RST) && is_reset(state, world, table) {
            after = after.with_reset(world.now());
        }
    } else {
        if before.has(State::RST) && before.ticks_since_reset(world.now()) > RESET_SETTLED {
            after = after.without_reset();
        }
        if state.headers.flags.closes() {
            after = after.with(if is_reply { State::FIN_BACKEND } else { State::FIN_CLIENT });
        }
    }
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    let flags = state.headers.flags;
    if table == Table::HalfOpen && (is_reply && flags.accepts() || !is_reply && flags.opens()) {
        world.set_expected(table, &state.reply_tuple, expected_in_return(&state.headers));
    }
    if after == before {
        return;
    }
    set_state(state, world, table, before, after);
    if table == Table::HalfOpen && after.is_closing() {
        // Another CPU may be moving the flow just now, and have read the old state.
        set_state(state, world, Table::Established, before, after);
    }
}

/// What packets in the other direction will carry once this one, which opens or accepts a connection,
/// has arrived: TCP acknowledges the SYN, which counts as one byte; SCTP has the tag that was asked for.
#[inline(always)]
pub(super) fn expected_in_return<A: Address>(headers: &Headers<A>) -> u32 {
    match headers.tuple.protocol {
        Protocol::SCTP => headers.proof.sequence,
        _ => headers.proof.sequence.wrapping_add(1),
    }
}

/// Changes the state of both entries; the key of the other one is in `reply_tuple`.
#[inline(always)]
fn set_state<A: Address, W: World<A>>(
    state: &PacketState<A>,
    world: &W,
    table: Table,
    before: State,
    after: State,
) {
    world.set_state(table, &state.headers.tuple, before, after);
    world.set_state(table, &state.reply_tuple, before, after);
}

/// Whether a RST ends the flow (RFC 5961, 3.2: its receiver believes one sequence number alone), or was
/// sent by a stranger: a client that knows nothing of the flow must guess. An SCTP ABORT has the tag of
/// its own direction or of the other one (RFC 9260, 8.5.1).
#[inline(always)]
fn is_reset<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W, table: Table) -> bool {
    let sequence = state.headers.proof.sequence;
    if state.headers.tuple.protocol == Protocol::SCTP && sequence == state.entry.expected {
        return true;
    }
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    if !world.lookup(table, &state.reply_tuple, &mut state.reply_entry) {
        return true;
    }
    let expected = state.reply_entry.expected;
    match state.headers.tuple.protocol {
        _ if expected == 0 => true,
        Protocol::SCTP => sequence == expected,
        _ => sequence.wrapping_sub(expected) <= RESET_WINDOW,
    }
}

/// Removes both entries of the packet's flow.
#[inline(always)]
pub(super) fn remove_flow<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    table: Table,
) {
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    world.remove(table, &state.headers.tuple);
    if world.has_mapping(table, &state.reply_tuple, &state.headers.tuple) {
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
    // The original entry's key takes the place of what it rewrites to.
    state.reply_entry.rewritten.reverse();
    if world.has_mapping(table, &state.reply_entry.rewritten, &state.reply_tuple) {
        world.remove(table, &state.reply_entry.rewritten);
    }
}
