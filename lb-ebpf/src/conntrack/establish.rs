//! Moves a flow's entries to the established table, and keeps a half-open flow's two together.

use lb_common::address::Address;
use lb_common::conntrack::State;
use lb_common::outcome::Outcome;

use super::create::reply_expected;
use crate::packet_state::PacketState;
use crate::world::{InsertError, Table, World};

/// How a flow was established.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Establish {
    /// It is in the established table, by this CPU or another one.
    Done,
    /// That table is full: it stays half-open.
    Full,
    /// Another CPU is just moving it: the next packet sees the result.
    Later,
    /// Another flow has its reply tuple: it must begin again.
    Lost,
}

/// Moves a flow into the established table. Another CPU may do the same, or change the flow's marks, at
/// the same moment: so the entries are there before the half-open ones go, and marks that came to these
/// meanwhile follow.
#[inline(always)]
pub(super) fn establish<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Establish {
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    if world.lookup(Table::HalfOpen, &state.reply_tuple, &mut state.reply_entry) {
        if !state.reply_entry.rewritten.is_reverse_of(&state.headers.tuple) {
            return Establish::Lost;
        }
    } else {
        state.reply_entry.set_reply_of(&state.entry, &state.headers.tuple);
    }
    let before = state.entry.state;
    state.entry.state = before.with(State::ESTABLISHED);
    state.entry.last_seen = world.now();
    state.reply_entry.state = state.entry.state;
    state.reply_entry.last_seen = state.entry.last_seen;
    match insert_reply_entry(world, state, Table::Established) {
        Ok(true) => {}
        Ok(false) => return Establish::Lost,
        Err(InsertError::Exists) => return Establish::Later,
        Err(InsertError::Full) => return stay(world, state, before),
    }
    if let Err(InsertError::Full) =
        world.insert(Table::Established, &state.headers.tuple, &state.entry)
    {
        world.remove(Table::Established, &state.reply_tuple);
        return stay(world, state, before);
    }
    merge_marks(world, state);
    world.remove(Table::HalfOpen, &state.headers.tuple);
    world.remove(Table::HalfOpen, &state.reply_tuple);
    Establish::Done
}

/// Lets a flow stay half-open, where its entries are as if established: idle, it is kept for as long. `before` is the
/// state that they have.
#[inline(always)]
fn stay<A: Address, W: World<A>>(world: &W, state: &PacketState<A>, before: State) -> Establish {
    if !before.has(State::ESTABLISHED) {
        world.set_state(Table::HalfOpen, &state.headers.tuple, before, state.entry.state);
        world.set_state(Table::HalfOpen, &state.reply_tuple, before, state.entry.state);
    }
    Establish::Full
}

/// Adds the marks that other CPUs have set while this one moved the flow: in the half-open entries, or in
/// the established reply entry before the original one was there.
#[inline(always)]
fn merge_marks<A: Address, W: World<A>>(world: &W, state: &mut PacketState<A>) {
    let before = state.entry.state;
    let mut after = before;
    if world.lookup(Table::HalfOpen, &state.headers.tuple, &mut state.reply_entry) {
        after = after.with(state.reply_entry.state);
    }
    if world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry) {
        after = after.with(state.reply_entry.state);
    }
    if after != before {
        state.entry.state = after;
        world.set_state(Table::Established, &state.headers.tuple, before, after);
        world.set_state(Table::Established, &state.reply_tuple, before, after);
    }
}

/// Inserts a flow's reply entry again if it was evicted: neither entry may be without the other.
/// Returns whether it is there; if another flow has its tuple, it is not.
///
/// # Errors
/// It could not be inserted.
#[inline(always)]
pub(super) fn restore_reply_entry<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Result<bool, Outcome> {
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    if world.has_mapping(Table::HalfOpen, &state.reply_tuple, &state.headers.tuple) {
        return Ok(true);
    }
    state.reply_entry.set_reply_of(&state.entry, &state.headers.tuple);
    state.reply_entry.expected = reply_expected(state);
    match insert_reply_entry(world, state, Table::HalfOpen) {
        Ok(is_there) => Ok(is_there),
        // Another CPU is just inserting it.
        Err(InsertError::Exists) => Ok(true),
        Err(InsertError::Full) => Err(Outcome::DroppedConntrackFull),
    }
}

/// Inserts a flow's reply entry, unless another CPU has. Returns whether it is there; if not, another flow has its
/// tuple.
///
/// # Errors
/// [`InsertError::Exists`] if another CPU is just writing an entry of that tuple.
#[inline(always)]
fn insert_reply_entry<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
    table: Table,
) -> Result<bool, InsertError> {
    match world.insert(table, &state.reply_tuple, &state.reply_entry) {
        Ok(()) => Ok(true),
        Err(InsertError::Exists)
            if world.lookup(table, &state.reply_tuple, &mut state.reply_entry) =>
        {
            Ok(state.reply_entry.rewritten.is_reverse_of(&state.headers.tuple))
        }
        Err(error) => Err(error),
    }
}
