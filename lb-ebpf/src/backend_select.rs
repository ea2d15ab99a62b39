//! Which backend a new flow gets: source ranges, the pool of the sender's class, session affinity,
//! the slot of the tuple's hash.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::{EmptyPoolReason, FrontendRow, SourceClass};
use lb_common::source_range::SourceRange;

use crate::packet_state::Selection;
use crate::world::World;

/// The backend for a flow that begins with `tuple`: the one that its client had, where the Service port
/// has session affinity and that backend still takes such flows; else the one in the slot that the
/// tuple hashes to.
#[inline(always)]
pub(crate) fn backend<A: Address, W: World<A>>(
    world: &W,
    selection: &mut Selection<A>,
    tuple: &Tuple<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Result<(BackendId, Backend<A>), Outcome> {
    if row.is_restricted() {
        selection.range = SourceRange::of(row.service, tuple.source);
        if !world.source_allowed(&selection.range) {
            return Err(Outcome::DroppedSourceRange);
        }
    }
    let pool = row.pool(class);
    match pool.empty_reason() {
        None => {}
        Some(EmptyPoolReason::NoEndpoint) => return Err(Outcome::RejectedNoEndpoint),
        Some(EmptyPoolReason::NoLocalEndpoint) => return Err(Outcome::DroppedNoLocalEndpoint),
    }
    if row.affinity > 0
        && let Some(kept) = by_affinity(world, selection, &tuple.source, row, class)
    {
        return Ok(kept);
    }
    let slot = pool.base.wrapping_add(hash::reduce(hash::tuple(tuple), pool.length));
    let id = world.slot(slot).ok_or(Outcome::DroppedNoBackend)?;
    let backend = world.backend(id).ok_or(Outcome::DroppedNoBackend)?;
    if row.affinity > 0 {
        return Ok(set_affinity(world, selection, row, class, (id, backend)));
    }
    Ok((id, backend))
}

/// The backend that the client had, if it may keep it. Leaves the client's key in `selection.client`,
/// and what was found in `selection.affinity`.
#[inline(always)]
fn by_affinity<A: Address, W: World<A>>(
    world: &W,
    selection: &mut Selection<A>,
    client: &A,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<(BackendId, Backend<A>)> {
    selection.client = Client { address: *client, service: row.service };
    selection.affinity = Affinity { generation: 0, ..selection.affinity };
    selection.affinity = world.affinity(&selection.client)?;
    let now = world.now();
    if now.since(selection.affinity.last_used) > row.affinity {
        return None;
    }
    let backend = eligible(world, selection, row, class)?;
    if now != selection.affinity.last_used {
        selection.affinity.last_used = now;
        world.set_affinity(&selection.client, &selection.affinity, true);
    }
    Some((selection.affinity.backend, backend))
}

/// The row of the backend in `selection.affinity`, if a flow of `class` may get it.
#[inline(always)]
fn eligible<A: Address, W: World<A>>(
    world: &W,
    selection: &Selection<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<Backend<A>> {
    let Affinity { backend, generation, .. } = selection.affinity;
    world.backend(backend).filter(|backend| {
        backend.generation == generation
            && backend.service == row.service
            && backend.is_serving()
            && backend.is_for(row.is_local(class))
    })
}

/// Remembers the selected backend. Two first packets of a client may be under way on two CPUs at once:
/// the later one takes the backend that the earlier one got.
#[inline(always)]
fn set_affinity<A: Address, W: World<A>>(
    world: &W,
    selection: &mut Selection<A>,
    row: &FrontendRow,
    class: SourceClass,
    (id, backend): (BackendId, Backend<A>),
) -> (BackendId, Backend<A>) {
    let is_first = selection.affinity.generation == 0;
    selection.affinity =
        Affinity { backend: id, generation: backend.generation, last_used: world.now() };
    if !world.set_affinity(&selection.client, &selection.affinity, !is_first)
        && let Some(theirs) = world.affinity(&selection.client)
    {
        selection.affinity = theirs;
        if let Some(backend) = eligible(world, selection, row, class) {
            return (selection.affinity.backend, backend);
        }
    }
    (id, backend)
}
