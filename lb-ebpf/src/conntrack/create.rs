//! Creates a flow's two entries, and moves them to the established table.

use lb_common::address::{Address, Tuple};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::hash;
use lb_common::outcome::Outcome;

use super::nat;
use super::state::remove_reply_flow;
use crate::hook::Hook;
use crate::packet_state::PacketState;
use crate::world::{InsertError, Table, World};

/// Source ports tried for one flow. Each attempt fails with the share of ports in use towards the same
/// backend: at nine in ten in use, sixteen attempts fail for one flow in five.
const ATTEMPTS: u32 = 16;

/// Creates the flow of this packet to the selected backend.
///
/// # Errors
/// The outcome of a packet whose flow could not be created.
#[inline(always)]
pub(super) fn create<A: Address, W: World<A>>(
    world: &W,
    hook: Hook,
    state: &mut PacketState<A>,
    id: BackendId,
    backend: &Backend<A>,
) -> Result<(), Outcome> {
    let tuple = &state.headers.tuple;
    let (source, flags) = nat::source(world, hook, tuple, backend)?;
    state.entry = ConntrackEntry {
        rewritten: Tuple::new(
            source,
            tuple.source_port,
            backend.address,
            backend.port,
            tuple.protocol,
        ),
        service: backend.service,
        backend: id,
        generation: backend.generation,
        last_seen: world.now(),
        state: State::NEW,
        flags,
        zero: 0,
    };
    allocate_snat_port(world, state)?;
    if let Err(error) = world.insert(Table::HalfOpen, &state.headers.tuple, &state.entry) {
        world.remove(Table::HalfOpen, &state.reply_tuple);
        return Err(error.into());
    }
    world.count_connection(id);
    Ok(())
}

/// Finds a source port that tells the flow's replies from all others, sets it in the entry, and
/// inserts the reply entry. A flow that keeps its source address keeps its port, too, unless the
/// reply tuple is another flow's.
#[inline(always)]
fn allocate_snat_port<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Result<(), Outcome> {
    let is_snat = state.entry.is_snat();
    let settings = world.settings();
    let hash = hash::tuple(&state.headers.tuple);
    for attempt in 0..ATTEMPTS {
        if is_snat || attempt > 0 {
            if settings.snat_ports == 0 {
                return Err(Outcome::DroppedNoSnatPort);
            }
            state.entry.rewritten.source_port =
                nat::snat_port(settings.first_snat_port, settings.snat_ports, hash, attempt);
        }
        if try_reply_tuple(world, state, is_snat)? {
            return Ok(());
        }
    }
    Err(Outcome::DroppedNoSnatPort)
}

/// Inserts the reply entry unless its tuple is in use; returns whether it was inserted.
#[inline(always)]
fn try_reply_tuple<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
    is_snat: bool,
) -> Result<bool, Outcome> {
    state.reply_tuple = state.entry.other_key();
    if world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry) {
        if !state.reply_entry.state.is_over() {
            return Ok(false);
        }
        remove_reply_flow(state, world, Table::Established);
        state.reply_tuple = state.entry.other_key();
    }
    if is_snat && world.socket_exists(&state.reply_tuple) {
        return Ok(false);
    }
    state.reply_entry = state.entry.reply_entry(&state.headers.tuple);
    match world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry) {
        Ok(()) => Ok(true),
        Err(InsertError::Full) => Err(Outcome::DroppedConntrackFull),
        // This flow's from before, whose other entry was evicted, or another flow's.
        Err(InsertError::Exists) => {
            let rewritten = &state.reply_entry.rewritten;
            if !world.has_mapping(Table::HalfOpen, &state.reply_tuple, rewritten) {
                return Ok(false);
            }
            world.remove(Table::HalfOpen, &state.reply_tuple);
            world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry)?;
            Ok(true)
        }
    }
}

/// Moves a flow that was replied to into the established table.
///
/// # Errors
/// The table is full; the flow then stays half-open.
#[inline(always)]
pub(super) fn establish<A: Address, W: World<A>>(
    world: &W,
    state: &mut PacketState<A>,
) -> Result<(), InsertError> {
    state.entry.state = state.entry.state.with(State::ESTABLISHED);
    state.entry.last_seen = world.now();
    state.reply_tuple = state.entry.other_key();
    state.reply_entry = state.entry.reply_entry(&state.headers.tuple);
    world.insert(Table::Established, &state.reply_tuple, &state.reply_entry)?;
    if let Err(error) = world.insert(Table::Established, &state.headers.tuple, &state.entry) {
        world.remove(Table::Established, &state.reply_tuple);
        return Err(error);
    }
    world.remove(Table::HalfOpen, &state.headers.tuple);
    world.remove(Table::HalfOpen, &state.reply_tuple);
    Ok(())
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
    state.reply_tuple = state.entry.other_key();
    state.reply_entry = state.entry.reply_entry(&state.headers.tuple);
    if world.has_mapping(Table::HalfOpen, &state.reply_tuple, &state.reply_entry.rewritten) {
        return Ok(true);
    }
    match world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry) {
        Ok(()) => Ok(true),
        Err(InsertError::Exists) => Ok(false),
        Err(InsertError::Full) => Err(Outcome::DroppedConntrackFull),
    }
}
