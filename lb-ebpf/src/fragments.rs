//! Fragments: only the first one of a packet has ports. What it says is remembered for the later ones;
//! a later one that arrives before it is queued.

use lb_common::address::{Address, Protocol};
use lb_common::conntrack::HookPoint;
use lb_common::filter;
use lb_common::fragment::{FirstFragment, QueuedFragment};
use lb_common::outcome::Outcome;

use crate::hook::Hook;
use crate::packet::Packet;
use crate::packet_state::PacketState;
use crate::world::{RateLimit, World};

/// Remembers the ports of a first fragment that may be of a Service's state, or go to an address at
/// which later ones wait for theirs; and lets those that came before it come by again.
#[inline(always)]
pub(crate) fn first<A, P, W>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome>
where
    A: Address,
    P: Packet + ?Sized,
    W: World<A>,
{
    let tuple = &state.headers.tuple;
    let at = |address, port| {
        world.filter_matches(filter::frontend(address, port, tuple.protocol))
            || world.filter_matches(filter::backend(address, port, tuple.protocol))
    };
    let concerns = at(&tuple.source, tuple.source_port)
        || at(&tuple.destination, tuple.destination_port)
        || (matches!(hook.point, HookPoint::Ingress)
            && world.ip_policy(&tuple.destination).is_some());
    if !concerns {
        return Ok(());
    }
    let is_known = world.lookup_fragment(&state.fragmented, &mut state.first);
    let queued =
        if is_known && state.first.protocol == Protocol(0) { state.first.queued } else { 0 };
    let tuple = &state.headers.tuple;
    state.first = FirstFragment {
        ports: tuple.ports(),
        seen: world.now(),
        protocol: tuple.protocol,
        queued: 0,
        zeroes: 0,
        received: state.extent.length,
        total: 0,
    };
    world.set_fragment(&state.fragmented, &state.first);
    if queued > 0 {
        state.queued = QueuedFragment { packet: state.fragmented, number: 0 };
        world.release(&mut state.queued, queued, packet)?;
    }
    Ok(())
}

/// Gives a later fragment the ports of the first one. Where that one has not arrived and the packet may
/// be a Service's, the fragment is queued.
///
/// # Errors
/// The end of its walk.
#[inline(always)]
pub(crate) fn later<A, P, W>(
    state: &mut PacketState<A>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome>
where
    A: Address,
    P: Packet + ?Sized,
    W: World<A>,
{
    if ports_known(state, world) {
        return Ok(());
    }
    let waits = matches!(hook.point, HookPoint::Ingress)
        && world.ip_policy(&state.headers.tuple.destination).is_some();
    if !waits {
        return Err(Outcome::PassedFragment);
    }
    let now = world.now();
    // What is left of an earlier packet with this identification does not count.
    let is_new = state.first.protocol.0 != 0
        || state.first.queued == 0
        || now.since(state.first.seen) > FirstFragment::LIFETIME;
    if is_new {
        state.first.seen = now;
        state.first.protocol = Protocol(0);
        state.first.queued = 0;
    }
    if state.first.queued >= FirstFragment::MAX_QUEUED
        || (is_new && !world.allow(RateLimit::FragmentQueue))
    {
        return Err(Outcome::DroppedFragNotFound);
    }
    state.queued =
        QueuedFragment { packet: state.fragmented, number: u32::from(state.first.queued) };
    if !world.enqueue(&state.queued, packet) {
        return Err(Outcome::DroppedFragNotFound);
    }
    state.first.queued += 1;
    world.set_fragment(&state.fragmented, &state.first);
    Err(Outcome::QueuedFragment)
}

/// Whether the first fragment's ports are known; they are then in the tuple. Otherwise `state.first` is
/// what is known of the packet, if anything.
#[inline(always)]
fn ports_known<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) -> bool {
    state.first.queued = 0;
    state.first.protocol = Protocol(0);
    if !world.lookup_fragment(&state.fragmented, &mut state.first)
        || !state.first.is_known(world.now())
    {
        return false;
    }
    state.headers.tuple.source_port = state.first.ports.source();
    state.headers.tuple.destination_port = state.first.ports.destination();
    state.headers.tuple.protocol = state.first.protocol;
    if state.first.count(state.extent.length, state.extent.total) {
        world.remove_fragment(&state.fragmented);
    } else {
        world.set_fragment(&state.fragmented, &state.first);
    }
    true
}
