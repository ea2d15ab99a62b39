//! Beginning a connection: how its packets are rewritten, and its two entries.

use lb_common::address::{Address, Port, Tuple};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State};
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;

use crate::balance::{Hook, World};
use crate::flow::{Flow, known};
use crate::tables::{Refusal, Table};

/// Source ports tried for one flow. Each try fails with the share of ports taken towards the same
/// backend: at nine in ten taken, sixteen tries fail for one flow in five.
const TRIES: u32 = 16;

/// Begins a flow with the backend chosen.
#[inline(always)]
pub(crate) fn begin<A: Address, W: World<A>>(
    world: &W,
    hook: Hook,
    flow: &mut Flow<A>,
    id: BackendId,
    backend: &Backend<A>,
) -> Result<(), Outcome> {
    let tuple = &flow.headers.tuple;
    let (source, flags) = source(world, hook, tuple, backend)?;
    flow.entry = Connection {
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
    claim(world, flow)?;
    if let Err(refusal) = world.add(Table::HalfOpen, &flow.headers.tuple, &flow.entry) {
        world.remove(Table::HalfOpen, &flow.answers);
        return Err(refusal.into());
    }
    world.count_connection(id);
    Ok(())
}

/// The source address of a flow's packets towards `backend`, and how they leave.
#[inline(always)]
fn source<A: Address, W: World<A>>(
    world: &W,
    hook: Hook,
    tuple: &Tuple<A>,
    backend: &Backend<A>,
) -> Result<(A, u8), Outcome> {
    if matches!(hook.class, SourceClass::Network) && !backend.is_local() {
        // The backend's answers must come back through this node.
        let own = world.own_address(known(world.route(&backend.address))?.device);
        return if own.is_unspecified() {
            Err(Outcome::NoSourceAddress)
        } else {
            Ok((own, Connection::<A>::OUT))
        };
    }
    if !hook.goes_on {
        return Err(Outcome::LeftToTc);
    }
    if backend.address == tuple.source {
        // The frontend's address stands for the pod towards itself: it is ours, it routes back
        // here, and no socket has it as the source of a connection to this pod.
        return Ok((tuple.destination, Connection::<A>::BACK));
    }
    Ok((tuple.source, 0))
}

/// Finds a source port under which the answers can be told from all others, sets it in the entry,
/// and adds the entry for the answers.
#[inline(always)]
fn claim<A: Address, W: World<A>>(world: &W, flow: &mut Flow<A>) -> Result<(), Outcome> {
    let own_address = flow.entry.goes_out();
    let settings = world.settings();
    let hash = hash::tuple(&flow.headers.tuple);
    for attempt in 0..TRIES {
        if own_address || attempt > 0 {
            if settings.source_ports == 0 {
                return Err(Outcome::NoSourcePort);
            }
            flow.entry.rewritten.source_port =
                source_port(settings.first_source_port, settings.source_ports, hash, attempt);
        }
        if try_claim(world, flow, own_address)? {
            return Ok(());
        }
    }
    Err(Outcome::NoSourcePort)
}

/// Adds the entry for the answers, unless answers of that tuple belong to somebody else; returns
/// whether they are ours.
#[inline(always)]
fn try_claim<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
    own_address: bool,
) -> Result<bool, Outcome> {
    flow.answers = flow.entry.partner();
    if world.find(Table::Established, &flow.answers, &mut flow.answer) {
        if !flow.answer.state.is_over() {
            return Ok(false);
        }
        flow.forget_other(world, Table::Established);
        flow.answers = flow.entry.partner();
    }
    if own_address && world.has_socket(&flow.answers) {
        return Ok(false);
    }
    flow.answer = flow.entry.answer(&flow.headers.tuple);
    match world.add(Table::HalfOpen, &flow.answers, &flow.answer) {
        Ok(()) => Ok(true),
        Err(Refusal::Full) => Err(Outcome::TableFull),
        // Ours from before, whose other half was evicted, or another flow's.
        Err(Refusal::Exists) => {
            if !world.leads_to(Table::HalfOpen, &flow.answers, &flow.answer.rewritten) {
                return Ok(false);
            }
            world.remove(Table::HalfOpen, &flow.answers);
            world.add(Table::HalfOpen, &flow.answers, &flow.answer)?;
            Ok(true)
        }
    }
}

/// The `attempt`th port for a flow: spread by its hash, then in wide steps, so that tries neither
/// crowd nor repeat. The multiplication brings the hash's low bits up: its high ones have chosen the
/// backend already, and all flows of a backend would crowd into a few ports.
#[inline(always)]
pub(crate) const fn source_port(first: u16, count: u16, hash: u32, attempt: u32) -> Port {
    let spread = hash::reduce(hash.wrapping_add(attempt).wrapping_mul(0x9e37_79b1), count as u32);
    Port::new(first.wrapping_add(spread as u16))
}

/// Moves an answered flow to the table of established ones.
///
/// # Errors
/// There is no room; the flow then stays where it is.
#[inline(always)]
pub(crate) fn establish<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
) -> Result<(), Refusal> {
    flow.entry.state = flow.entry.state.with(State::ESTABLISHED);
    flow.entry.last_seen = world.now();
    flow.answers = flow.entry.partner();
    flow.answer = flow.entry.answer(&flow.headers.tuple);
    world.add(Table::Established, &flow.answers, &flow.answer)?;
    if let Err(refusal) = world.add(Table::Established, &flow.headers.tuple, &flow.entry) {
        world.remove(Table::Established, &flow.answers);
        return Err(refusal);
    }
    world.remove(Table::HalfOpen, &flow.headers.tuple);
    world.remove(Table::HalfOpen, &flow.answers);
    Ok(())
}

/// Puts a flow's other entry back if it was evicted: neither may be without the other. Returns
/// whether it stands; if another flow has taken its place, it does not.
///
/// # Errors
/// It could not be written.
#[inline(always)]
pub(crate) fn complete<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
) -> Result<bool, Outcome> {
    flow.answers = flow.entry.partner();
    flow.answer = flow.entry.answer(&flow.headers.tuple);
    if world.leads_to(Table::HalfOpen, &flow.answers, &flow.answer.rewritten) {
        return Ok(true);
    }
    match world.add(Table::HalfOpen, &flow.answers, &flow.answer) {
        Ok(()) => Ok(true),
        Err(Refusal::Exists) => Ok(false),
        Err(Refusal::Full) => Err(Outcome::TableFull),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_one_backend_spread_over_all_ports() {
        const SLOTS: u32 = 1009;
        const PORTS: u16 = 64;
        let mut times = [0u32; PORTS as usize];
        let hashes = (0u32..1 << 22).map(|i| i.wrapping_mul(0x85eb_ca6b));
        for hash in hashes.filter(|hash| hash::reduce(*hash, SLOTS) == 7) {
            times[usize::from(source_port(0, PORTS, hash, 0).number())] += 1;
        }
        let total: u32 = times.iter().sum();
        let fair = total / u32::from(PORTS);
        assert!(times.iter().all(|n| (fair / 2..=fair * 2).contains(n)), "{times:?}");
    }
}
