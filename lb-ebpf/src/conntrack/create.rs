//! Creates a flow's two entries.

use lb_common::address::{Address, Protocol, Tuple};
use lb_common::backend::{BackendId, GENERATIONS};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;

use super::state::{check_hook, expected_in_return, remove_reply_flow};
use super::{direct, nat};
use crate::hook::Hook;
use crate::packet_state::PacketState;
use crate::world::{InsertError, Table, World};

/// Attempts to find a source port: all but the last by hints. One fails where a hint was lost or a row full: it is
/// known from then on. The last goes by the conntrack tables.
const ATTEMPTS: u32 = 4;

/// Creates the flow of this packet to the selected backend.
///
/// # Errors
/// The outcome of a packet whose flow could not be created.
#[inline(always)]
pub(super) fn create<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    fill(state, world, hook)?;
    if let Err(outcome) = allocate_snat_port(world, state) {
        return Err(direct::untracked(state, outcome));
    }
    insert_original(world, state, hook)
}

/// Fills the original entry in but for the source port that SNAT needs. This and what follows it are functions of
/// their own in the kernel, for the stack.
#[inline(never)]
fn fill<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    let id = state.entry.backend;
    let flags = if id == BackendId::NONE {
        state.entry.rewritten.source = state.headers.tuple.source;
        ConntrackEntry::<A>::DIRECT
    } else {
        nat::set_source(state, world, hook)?
    };
    let (source, tuple, backend) =
        (state.entry.rewritten.source, &state.headers.tuple, &state.backend);
    let from_pod = match hook.class {
        SourceClass::Pod => ConntrackEntry::<A>::FROM_POD,
        SourceClass::Network | SourceClass::Host => 0,
    };
    state.entry = ConntrackEntry {
        rewritten: Tuple::new(
            source,
            tuple.source_port,
            backend.address,
            backend.port,
            tuple.protocol,
        ),
        backend: id,
        generation: backend.generation % GENERATIONS,
        last_seen: world.now(),
        state: State::NEW,
        expected: expected_at_first(state, world.now()),
        flags: flags | from_pod,
        zero: 0,
        zeroes: 0,
    };
    Ok(())
}

/// What is known at a flow's first packet of those that will follow it. UDP: since when it lives.
#[inline(always)]
fn expected_at_first<A: Address>(state: &PacketState<A>, now: Ticks) -> u32 {
    if state.headers.tuple.protocol == Protocol::UDP { now.0 } else { 0 }
}

/// Inserts the original entry, after the reply entry: a flow that can be found can be replied to. Of two
/// CPUs that begin one flow at the same moment, the first one's entry counts, and the second follows it. It
/// may be the reply entry of a flow that the two ends have begun at the same moment from the other side.
#[inline(never)]
fn insert_original<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
    hook: Hook,
) -> Result<(), Outcome> {
    match world.insert(Table::HalfOpen, &state.headers.tuple, &state.entry) {
        Ok(()) => {
            if !state.entry.is_direct() {
                world.count_connection(state.entry.backend);
            }
            return Ok(());
        }
        Err(InsertError::Full) => {}
        Err(InsertError::Exists) => {
            if world.lookup(Table::HalfOpen, &state.headers.tuple, &mut state.reply_entry)
                || world.lookup(Table::Established, &state.headers.tuple, &mut state.reply_entry)
            {
                state.entry = state.reply_entry;
                if !state.entry.rewritten.is_reverse_of(&state.reply_tuple) {
                    world.remove(Table::HalfOpen, &state.reply_tuple);
                }
                return check_hook(state, hook);
            }
            // The other CPU is just writing it. This packet goes as this CPU would have it, and its reply comes
            // back by the reply entry; the next ones follow the other's entry.
            return Ok(());
        }
    }
    world.remove(Table::HalfOpen, &state.reply_tuple);
    Err(direct::untracked(state, Outcome::DroppedConntrackFull))
}

/// Finds a source port that tells the flow's replies from all others, sets it in the entry, and
/// inserts the reply entry. A flow whose source does not become this node's keeps its port, unless the
/// reply tuple is another flow's.
#[inline(never)]
fn allocate_snat_port<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Result<(), Outcome> {
    let takes_port = nat::takes_port(world, state);
    nat::begin_search(state);
    for attempt in 0..ATTEMPTS {
        if takes_port || attempt > 0 {
            if direct::is_translated_packet(state) {
                return Err(Outcome::PassedOtherHook);
            }
            let port = if attempt + 1 < ATTEMPTS {
                nat::port_by_hints(state, world)
            } else {
                nat::port_by_tables(state, world)
            };
            let Some(port) = port else { continue };
            state.entry.rewritten.source_port = port;
        }
        // Another port is as good as that of a flow that is over, of which packets may still be under way.
        let may_reuse = !takes_port || attempt + 1 == ATTEMPTS;
        if try_reply_tuple(world, state, takes_port, may_reuse)? {
            return Ok(());
        }
    }
    Err(Outcome::DroppedNoSnatPort)
}

/// Inserts the reply entry unless its tuple is another flow's, or of one that is over and it must not be reused; returns
/// whether the flow has it now.
#[inline(always)]
fn try_reply_tuple<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
    takes_port: bool,
    may_reuse: bool,
) -> Result<bool, Outcome> {
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    if world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry) {
        if !state.reply_entry.state.is_over() {
            // Another CPU may just have established this very flow.
            return Ok(state.reply_entry.rewritten.is_reverse_of(&state.headers.tuple));
        }
        if !may_reuse {
            return Ok(false);
        }
        remove_reply_flow(state, world, Table::Established);
        state.reply_tuple.set_reversed(&state.entry.rewritten);
    }
    if takes_port && world.socket_exists(&state.reply_tuple) {
        return Ok(false);
    }
    state.reply_entry.set_reply_of(&state.entry, &state.headers.tuple);
    state.reply_entry.expected = reply_expected(state);
    match world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry) {
        Ok(()) => Ok(true),
        Err(InsertError::Full) => Err(Outcome::DroppedConntrackFull),
        Err(InsertError::Exists) => share_reply_entry(world, state),
    }
}

/// What the backend's packets will carry.
#[inline(always)]
pub(super) fn reply_expected<A: Address>(state: &PacketState<A>) -> u32 {
    if state.headers.flags.opens() { expected_in_return(&state.headers) } else { 0 }
}

/// There is a half-open entry of the reply tuple. If it is this flow's, it stays: another CPU has just
/// inserted it. One from before, whose original entry was evicted, is replaced. Returns whether the flow
/// has the entry; if not, it is another flow's.
#[inline(always)]
fn share_reply_entry<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Result<bool, Outcome> {
    if !world.lookup(Table::HalfOpen, &state.reply_tuple, &mut state.reply_entry) {
        // It is gone again: the next attempt sees what is there now.
        return Ok(false);
    }
    if !state.reply_entry.rewritten.is_reverse_of(&state.headers.tuple) {
        return Ok(false);
    }
    if state.reply_entry.generation == state.entry.generation
        && state.reply_entry.backend == state.entry.backend
        && !state.reply_entry.state.is_over()
    {
        return Ok(true);
    }
    state.reply_entry.set_reply_of(&state.entry, &state.headers.tuple);
    state.reply_entry.expected = reply_expected(state);
    world.remove(Table::HalfOpen, &state.reply_tuple);
    match world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry) {
        // Another CPU was faster, with the same flow: no other has this tuple in mind.
        Ok(()) | Err(InsertError::Exists) => Ok(true),
        Err(InsertError::Full) => Err(Outcome::DroppedConntrackFull),
    }
}

#[cfg(test)]
mod tests;
