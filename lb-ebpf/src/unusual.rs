//! Packets that are not read at a glance: fragments, IPv6 extension headers, echo requests, ICMP
//! errors. Few are, so all this is a function of its own in the kernel, and XDP leaves them to TC.

use lb_common::address::Address;
use lb_common::connection::Place;
use lb_common::filter;
use lb_common::fragment::FirstFragment;
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
    let unusual = if matches!(unusual, Outcome::Fragment | Outcome::ExtensionHeader) {
        match V::read_closer(packet, &mut flow.headers, &mut flow.fragmented) {
            Ok(Part::Whole) => return Ok(()),
            Ok(Part::First) => {
                remember(flow, world, hook);
                return Ok(());
            }
            Ok(Part::Later) => return recall(flow, world, hook),
            Err(outcome) => outcome,
        }
    } else {
        unusual
    };
    Err(match unusual {
        Outcome::Ping => answer::ping::<V, P, W>(flow, packet, world, hook),
        Outcome::IcmpError => error::translate::<V, P, W>(flow, packet, world, hook),
        other => other,
    })
}

/// Remembers the ports of a first fragment that may be of a Service's flow, or go to an address at
/// which later ones have to wait for theirs.
#[inline(always)]
fn remember<A: Address, W: World<A>>(flow: &mut Flow<A>, world: &W, hook: Hook) {
    let tuple = &flow.headers.tuple;
    let at = |address, port| world.may_concern(filter::position(address, port, tuple.protocol));
    let concerns = at(&tuple.source, tuple.source_port)
        || at(&tuple.destination, tuple.destination_port)
        || (matches!(hook.place, Place::Ingress) && world.address(&tuple.destination).is_some());
    if concerns {
        flow.first = FirstFragment {
            ports: tuple.ports(),
            seen: world.now(),
            protocol: tuple.protocol,
            zero: 0,
            zeroes: 0,
        };
        world.keep_fragment(&flow.fragmented, &flow.first);
    }
}

/// Gives a later fragment the ports that the first one had.
#[inline(always)]
fn recall<A: Address, W: World<A>>(
    flow: &mut Flow<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    if let Some(first) = world.first_fragment(&flow.fragmented)
        && world.now().since(first.seen) <= FirstFragment::LIFETIME
    {
        flow.headers.tuple.source_port = first.ports.source();
        flow.headers.tuple.destination_port = first.ports.destination();
        flow.headers.tuple.protocol = first.protocol;
        return Ok(());
    }
    let is_service = matches!(hook.place, Place::Ingress)
        && world.address(&flow.headers.tuple.destination).is_some_and(|row| row.answers_ping());
    Err(if is_service { Outcome::FragmentLost } else { Outcome::Fragment })
}
