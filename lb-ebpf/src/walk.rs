//! The walk of a packet: parse, look up or create its conntrack entry, rewrite, send on; or leave it
//! alone.

use lb_common::address::{Family, V4, V6};
use lb_common::outcome::{Disposition, Outcome};

use crate::conntrack::lookup::lookup_or_begin;
use crate::forward::forward;
use crate::from_host;
use crate::hook::{Hook, WalkResult};
use crate::icmp::reply;
use crate::packet::Packet;
use crate::packet_state::PacketState;
pub use crate::packet_state::Scratch;
use crate::slow_path;
use crate::wire::{IpVersion, Ipv4, Ipv6, family, has_tag};
use crate::world::World;

/// Walks a packet of either family. What the walk works out stands in `scratch`.
///
/// ```
/// use lb_common::conntrack::HookPoint;
/// use lb_common::outcome::Outcome;
/// use lb_common::service::SourceClass;
/// use lb_ebpf::hook::{Hook, Verdict};
/// use lb_ebpf::in_memory::{Rows, World};
/// use lb_ebpf::walk::{Scratch, walk};
///
/// let world = World::new(Rows::default());
/// let point = HookPoint::Ingress;
/// let hook = Hook { point, class: SourceClass::Pod, can_pass_to_stack: true };
/// let mut frame = vec![0; 60];
/// frame[12..14].copy_from_slice(&[0x08, 0x06]); // ARP
/// let result = walk(&mut frame, &world, hook, &mut Scratch::new());
/// assert_eq!(result.outcome, Outcome::PassedNotIp);
/// assert_eq!(result.verdict, Verdict::Pass);
/// ```
#[inline(always)]
pub fn walk<P, W>(packet: &mut P, world: &W, hook: Hook, scratch: &mut Scratch) -> WalkResult
where
    P: Packet + ?Sized,
    W: World<V4> + World<V6>,
{
    match family(packet) {
        Some(Family::V4) => {
            let outcome = walk_routed::<Ipv4, P, W>(packet, world, hook, &mut scratch.v4);
            scratch.v4.result(outcome)
        }
        Some(Family::V6) => {
            let outcome = walk_routed::<Ipv6, P, W>(packet, world, hook, &mut scratch.v6);
            scratch.v6.result(outcome)
        }
        None if has_tag(packet) => Outcome::PassedVlan.into(),
        None => Outcome::PassedNotIp.into(),
    }
}

/// Walks a packet of one family to its end.
#[inline(always)]
fn walk_routed<V, P, W>(
    packet: &mut P,
    world: &W,
    hook: Hook,
    state: &mut PacketState<V::Address>,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    state.is_unrouted = false;
    let outcome = walk_family::<V, P, W>(packet, world, hook, state);
    if !hook.can_pass_to_stack || !state.is_unrouted {
        return outcome;
    }
    match from_host::route(state, packet, world, hook) {
        Ok(()) => outcome,
        // No error is sent about what has been rewritten.
        Err(Outcome::RejectedFragNeeded) => Outcome::DroppedIcmpSuppressed,
        Err(outcome) => outcome,
    }
}

/// Walks a packet of one family.
#[inline(always)]
fn walk_family<V, P, W>(
    packet: &mut P,
    world: &W,
    hook: Hook,
    state: &mut PacketState<V::Address>,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    if hook.is_from_network() && !world.is_for_this_node(packet, &mut state.accepted) {
        return Outcome::PassedNotThisNode;
    }
    (state.conntrack_full, state.is_rerouted, state.has_link) = (false, false, false);
    let parsed = match V::parse(packet, &mut state.headers) {
        Err(outcome) if slow_path::takes(outcome) => {
            if !hook.can_pass_to_stack {
                return Outcome::PassedLeftToTc;
            }
            match slow_path::parse::<V, P, W>(state, packet, world, hook, outcome) {
                Err(outcome) if slow_path::is_icmp(outcome) => {
                    return slow_path::icmp::<V, P, W>(state, packet, world, hook, outcome);
                }
                parsed => parsed,
            }
        }
        parsed => parsed,
    };
    if let Err(outcome) = parsed {
        return outcome;
    }
    let forwarded = match lookup_or_begin(state, world, hook) {
        Ok(()) => forward::<V, P, W>(state, packet, world, hook),
        Err(outcome) => Err(outcome),
    };
    match forwarded {
        Ok(()) => state.outcome(),
        Err(outcome) if matches!(outcome.disposition(), Disposition::IcmpReplied) => {
            if hook.can_pass_to_stack {
                reply::reject::<V, P, W>(state, packet, world, hook, outcome)
            } else {
                Outcome::PassedLeftToTc
            }
        }
        Err(outcome) => outcome,
    }
}
