//! Packets to an address of a Service, or of a service CIDR, that are for no frontend.

use lb_common::address::Address;
use lb_common::outcome::Outcome;
use lb_common::source_range::SourceRange;

use crate::packet_state::Selection;
use crate::world::World;

/// The outcome of a packet to `destination` whose port is no frontend's.
#[inline(always)]
pub(crate) fn classify_non_service<A: Address, W: World<A>>(
    world: &W,
    selection: &mut Selection<A>,
    destination: &A,
) -> Outcome {
    match world.ip_policy(destination) {
        Some(policy) if policy.rejects() => return Outcome::RejectedNoSuchPort,
        Some(_) => return Outcome::PassedNotAService,
        None => {}
    }
    if is_unallocated(world, selection, destination) {
        Outcome::DroppedUnallocatedAddress
    } else {
        Outcome::PassedNotAService
    }
}

/// Whether `address`, a frontend's, is one of this node's own.
#[inline(always)]
pub(crate) fn is_own<A: Address, W: World<A>>(world: &W, address: &A) -> bool {
    world.ip_policy(address).is_some_and(|policy| policy.flags == 0)
}

/// Whether an address that no Service has is within one of the cluster's service CIDRs.
#[inline(always)]
pub(crate) fn is_unallocated<A: Address, W: World<A>>(
    world: &W,
    selection: &mut Selection<A>,
    address: &A,
) -> bool {
    selection.range = SourceRange::of(SourceRange::<A>::CLUSTER, *address);
    world.in_service_ranges(address) && world.source_allowed(&selection.range)
}
