//! Packets that are not read at a glance: fragments, IPv6 extension headers, echo requests, ICMP
//! errors. Few are, so all this is a function of its own in the kernel, and XDP leaves them to TC.

use lb_common::address::{Address, Protocol};
use lb_common::connection::Place;
use lb_common::filter;
use lb_common::fragment::{FirstFragment, HeldFragment};
use lb_common::outcome::Outcome;

use crate::balance::{Hook, World};
use crate::flow::Flow;
use crate::packet::Packet;
use crate::wire::{IpVersion, Part};
use crate::{answer, error};

/// Bytes of a frame that may have to be read: a header with options, an ICMP header, and as much
/// again of the packet that it is about.
const REACH: u32 = 256;

/// Whether a packet whose reading ended so is for [`read`].
#[inline(always)]
pub(crate) const fn is_unusual(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Fragment | Outcome::ExtensionHeader | Outcome::Ping | Outcome::IcmpError
    )
}

/// Reads a packet whose reading ended with `unusual`.
///
/// # Errors
/// The end of its walk. Else it is to be walked as any other.
#[inline(never)]
pub(crate) fn read<V, P, W>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
    unusual: Outcome,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    packet.reach(REACH);
    flow.fragmented.place = hook.place as u8;
    let unusual = if matches!(unusual, Outcome::Fragment | Outcome::ExtensionHeader) {
        match V::read_closer(packet, &mut flow.headers, &mut flow.fragmented, &mut flow.extent) {
            Ok(Part::Whole) => return Ok(()),
            Ok(Part::First) => return remember(flow, packet, world, hook),
            Ok(Part::Later) => return recall(flow, packet, world, hook),
            Err(outcome) => outcome,
        }
    } else {
        unusual
    };
    Err(if matches!(unusual, Outcome::Ping) {
        answer::ping::<V, P, W>(flow, packet, world, hook)
    } else if matches!(unusual, Outcome::IcmpError) {
        error::translate::<V, P, W>(flow, packet, world, hook)
    } else {
        unusual
    })
}

/// Remembers the ports of a first fragment that may be of a Service's flow, or go to an address at
/// which later ones wait for theirs; and lets those that came before it come by again.
#[inline(always)]
fn remember<A, P, W>(
    flow: &mut Flow<A>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome>
where
    A: Address,
    P: Packet + ?Sized,
    W: World<A>,
{
    let tuple = &flow.headers.tuple;
    let at = |address, port| world.may_concern(filter::position(address, port, tuple.protocol));
    let concerns = at(&tuple.source, tuple.source_port)
        || at(&tuple.destination, tuple.destination_port)
        || (matches!(hook.place, Place::Ingress) && world.address(&tuple.destination).is_some());
    if !concerns {
        return Ok(());
    }
    let is_known = world.first_fragment(&flow.fragmented, &mut flow.first);
    let held = if is_known && flow.first.protocol == Protocol(0) { flow.first.held } else { 0 };
    let tuple = &flow.headers.tuple;
    flow.first = FirstFragment {
        ports: tuple.ports(),
        seen: world.now(),
        protocol: tuple.protocol,
        held: 0,
        zeroes: 0,
        received: flow.extent.length,
        total: 0,
    };
    world.keep_fragment(&flow.fragmented, &flow.first);
    if held > 0 {
        flow.held = HeldFragment { packet: flow.fragmented, number: 0 };
        world.release(&mut flow.held, held, packet)?;
    }
    Ok(())
}

/// Gives a later fragment the ports that the first one had. Where that one has not come yet, and the
/// packet may be a Service's, it has to wait.
#[inline(always)]
fn recall<A, P, W>(flow: &mut Flow<A>, packet: &mut P, world: &W, hook: Hook) -> Result<(), Outcome>
where
    A: Address,
    P: Packet + ?Sized,
    W: World<A>,
{
    if recalled(flow, world) {
        return Ok(());
    }
    let waits = matches!(hook.place, Place::Ingress)
        && world.address(&flow.headers.tuple.destination).is_some();
    if !waits {
        return Err(Outcome::Fragment);
    }
    let now = world.now();
    // What is left of an earlier packet of this identification tells nothing.
    let is_new = flow.first.protocol.0 != 0
        || flow.first.held == 0
        || now.since(flow.first.seen) > FirstFragment::LIFETIME;
    if is_new {
        flow.first.seen = now;
        flow.first.protocol = Protocol(0);
        flow.first.held = 0;
    }
    if flow.first.held >= FirstFragment::MOST_HELD || (is_new && !world.may_answer()) {
        return Err(Outcome::FragmentLost);
    }
    flow.held = HeldFragment { packet: flow.fragmented, number: u32::from(flow.first.held) };
    if !world.hold(&flow.held, packet) {
        return Err(Outcome::FragmentLost);
    }
    flow.first.held += 1;
    world.keep_fragment(&flow.fragmented, &flow.first);
    Err(Outcome::FragmentHeld)
}

/// Whether the first fragment has told the ports; they are then in the tuple. Else `flow.first` is
/// what is known of the packet, if anything.
#[inline(always)]
fn recalled<A: Address, W: World<A>>(flow: &mut Flow<A>, world: &W) -> bool {
    flow.first.held = 0;
    flow.first.protocol = Protocol(0);
    if !world.first_fragment(&flow.fragmented, &mut flow.first) || !flow.first.tells(world.now()) {
        return false;
    }
    flow.headers.tuple.source_port = flow.first.ports.source();
    flow.headers.tuple.destination_port = flow.first.ports.destination();
    flow.headers.tuple.protocol = flow.first.protocol;
    if flow.first.count(flow.extent.length, flow.extent.total) {
        world.forget_fragment(&flow.fragmented);
    } else {
        world.keep_fragment(&flow.fragmented, &flow.first);
    }
    true
}
