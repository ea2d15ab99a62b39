//! Which backend a new flow gets.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::Ticks;
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::{FrontendRow, ServiceId, SourceClass, Verdict};
use lb_common::source_range::SourceRange;

use crate::balance::World;

/// Room to choose in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Choice<A> {
    /// The client, where its Service port has session affinity.
    client: Client<A>,
    /// What that client had.
    affinity: Affinity,
    /// An address to be looked for among ranges.
    range: SourceRange<A>,
}

impl<A: Address> Choice<A> {
    /// Room.
    pub fn new() -> Self {
        Self {
            client: Client { address: A::zeroed(), service: ServiceId(0) },
            affinity: Affinity { backend: BackendId(0), generation: 0, last_used: Ticks(0) },
            range: SourceRange::of(ServiceId(0), A::zeroed()),
        }
    }
}

/// A backend for a flow that begins with `tuple`: the one its client had, where the Service port asks
/// for that and it still takes such flows, else the one in the slot that the tuple hashes to.
#[inline(always)]
pub(crate) fn backend<A: Address, W: World<A>>(
    world: &W,
    choice: &mut Choice<A>,
    tuple: &Tuple<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Result<(BackendId, Backend<A>), Outcome> {
    if row.is_restricted() {
        choice.range = SourceRange::of(row.service, tuple.source);
        if !world.allows(&choice.range) {
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
        && let Some(kept) = kept(world, choice, &tuple.source, row, class)
    {
        return Ok(kept);
    }
    let slot = pool.base.wrapping_add(hash::reduce(hash::tuple(tuple), pool.length));
    let id = world.slot(slot).ok_or(Outcome::NoBackend)?;
    let backend = world.backend(id).ok_or(Outcome::NoBackend)?;
    if row.affinity > 0 {
        return Ok(keep(world, choice, row, class, (id, backend)));
    }
    Ok((id, backend))
}

/// What the client had, if it may keep it. Leaves in `choice.client` the key to remember it under, and
/// in `choice.affinity` what was found.
#[inline(always)]
fn kept<A: Address, W: World<A>>(
    world: &W,
    choice: &mut Choice<A>,
    client: &A,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<(BackendId, Backend<A>)> {
    choice.client = Client { address: *client, service: row.service };
    choice.affinity = Affinity { generation: 0, ..choice.affinity };
    choice.affinity = world.affinity(&choice.client)?;
    let now = world.now();
    if now.since(choice.affinity.last_used) > row.affinity {
        return None;
    }
    let backend = usable(world, choice, row, class)?;
    if now != choice.affinity.last_used {
        choice.affinity.last_used = now;
        world.keep_affinity(&choice.client, &choice.affinity, true);
    }
    Some((choice.affinity.backend, backend))
}

/// The row of the backend that `choice.affinity` names, if a flow of `class` may get it.
#[inline(always)]
fn usable<A: Address, W: World<A>>(
    world: &W,
    choice: &Choice<A>,
    row: &FrontendRow,
    class: SourceClass,
) -> Option<Backend<A>> {
    let Affinity { backend, generation, .. } = choice.affinity;
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
    choice: &mut Choice<A>,
    row: &FrontendRow,
    class: SourceClass,
    (id, backend): (BackendId, Backend<A>),
) -> (BackendId, Backend<A>) {
    let is_first = choice.affinity.generation == 0;
    choice.affinity =
        Affinity { backend: id, generation: backend.generation, last_used: world.now() };
    if !world.keep_affinity(&choice.client, &choice.affinity, !is_first)
        && let Some(theirs) = world.affinity(&choice.client)
    {
        choice.affinity = theirs;
        if let Some(backend) = usable(world, choice, row, class) {
            return (choice.affinity.backend, backend);
        }
    }
    (id, backend)
}

/// What becomes of a packet to no frontend: its destination may be an address for Services alone.
#[inline(always)]
pub(crate) fn beside_frontends<A: Address, W: World<A>>(
    world: &W,
    choice: &mut Choice<A>,
    destination: &A,
) -> Outcome {
    match world.address(destination) {
        Some(row) if row.rejects() => return Outcome::RejectedUndefinedPort,
        Some(_) => return Outcome::NotAService,
        None => {}
    }
    if is_unallocated(world, choice, destination) {
        Outcome::UnallocatedAddress
    } else {
        Outcome::NotAService
    }
}

/// Whether an address is of the cluster's service CIDRs.
#[inline(always)]
pub(crate) fn is_unallocated<A: Address, W: World<A>>(
    world: &W,
    choice: &mut Choice<A>,
    address: &A,
) -> bool {
    choice.range = SourceRange::of(SourceRange::<A>::CLUSTER, *address);
    world.may_be_service(address) && world.allows(&choice.range)
}
