//! Which backend a new flow gets.

use lb_common::address::Address;
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::{FrontendRow, SourceClass, Verdict};
use lb_common::source_range::SourceRange;

use crate::balance::World;
use crate::flow::Flow;

/// A backend for the flow: the one its client had, where the Service port asks for that and it still
/// takes such flows, else the one in the slot that the tuple hashes to.
#[inline(always)]
pub(crate) fn backend<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Result<(BackendId, Backend<A>), Outcome> {
    if row.is_restricted() {
        flow.range = SourceRange::of(row.service, flow.headers.tuple.source);
        if !world.allows(&flow.range) {
            return Err(Outcome::SourceRange);
        }
    }
    let pool = row.pool(class);
    match pool.verdict() {
        None => {}
        Some(Verdict::NoEndpoint) => return Err(Outcome::RejectedNoEndpoint),
        Some(Verdict::NoLocalEndpoint) => return Err(Outcome::NoLocalEndpoint),
    }
    if row.affinity > 0
        && let Some(kept) = kept(world, flow, row, class)
    {
        return Ok(kept);
    }
    let slot = pool.base.wrapping_add(hash::reduce(hash::tuple(&flow.headers.tuple), pool.length));
    let id = world.slot(slot).ok_or(Outcome::NoBackend)?;
    let backend = world.backend(id).ok_or(Outcome::NoBackend)?;
    if row.affinity > 0 {
        return Ok(keep(world, flow, row, class, (id, backend)));
    }
    Ok((id, backend))
}

/// What the client had, if it may keep it. Leaves in `flow.client` the key to remember it under, and
/// in `flow.affinity` what was found.
#[inline(always)]
fn kept<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<(BackendId, Backend<A>)> {
    flow.client = Client { address: flow.headers.tuple.source, service: row.service };
    flow.affinity = Affinity { generation: 0, ..flow.affinity };
    flow.affinity = world.affinity(&flow.client)?;
    let now = world.now();
    if now.since(flow.affinity.last_used) > row.affinity {
        return None;
    }
    let backend = usable(world, flow, row, class)?;
    if now != flow.affinity.last_used {
        flow.affinity.last_used = now;
        world.keep_affinity(&flow.client, &flow.affinity, true);
    }
    Some((flow.affinity.backend, backend))
}

/// The row of the backend that `flow.affinity` names, if a flow of `class` may get it.
#[inline(always)]
fn usable<A: Address, W: World<A>>(
    world: &W,
    flow: &Flow<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<Backend<A>> {
    let Affinity { backend, generation, .. } = flow.affinity;
    world.backend(backend).filter(|backend| {
        backend.generation == generation
            && backend.service == row.service
            && backend.is_serving()
            && backend.is_for(row.is_local(class))
    })
}

/// Remembers the backend chosen. Two first packets of a client may be under way on two CPUs at once:
/// the later one takes what the earlier one has got.
#[inline(always)]
fn keep<A: Address, W: World<A>>(
    world: &W,
    flow: &mut Flow<A>,
    row: &FrontendRow,
    class: SourceClass,
    (id, backend): (BackendId, Backend<A>),
) -> (BackendId, Backend<A>) {
    let is_first = flow.affinity.generation == 0;
    flow.affinity =
        Affinity { backend: id, generation: backend.generation, last_used: world.now() };
    if !world.keep_affinity(&flow.client, &flow.affinity, !is_first)
        && let Some(theirs) = world.affinity(&flow.client)
    {
        flow.affinity = theirs;
        if let Some(backend) = usable(world, flow, row, class) {
            return (flow.affinity.backend, backend);
        }
    }
    (id, backend)
}
