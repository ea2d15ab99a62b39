//! ICMP errors about translated packets: to whom they go, and which packet they are about, follow
//! that packet's connection, so that path MTU discovery, traceroute and refusals work through a
//! Service.

use lb_common::address::{Address, Family, Protocol};
use lb_common::outcome::{Ending, Outcome};

use crate::balance::{Hook, World};
use crate::checksum::Difference;
use crate::flow::Flow;
use crate::packet::{LINK_HEADER, Packet, TransportChecksum, Unwritable};
use crate::rewrite;
use crate::tables::Table;
use crate::wire::{FARTHEST, IpVersion, QUOTED_TRANSPORT, checksum_offset, icmp, set_ports};

/// What an error quotes of a packet, in bytes from the start of the frame.
#[derive(Clone, Copy)]
struct Quote {
    /// Where its IP header begins.
    ip: usize,
    /// Where its transport header begins.
    transport: usize,
    /// Where the error ends: whatever the frame holds behind that is neither quoted nor summed up.
    end: u32,
}

impl Quote {
    /// Whether `length` bytes of transport header are quoted.
    #[inline(always)]
    const fn holds(self, length: usize) -> bool {
        (self.transport + length) as u32 <= self.end
    }
}

/// Translates an error as the connection of the packet that it quotes is translated. An error goes
/// against the packet, hence the way of that packet's answers.
#[inline(always)]
pub(crate) fn translate<V, P, W>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    let ip = flow.headers.transport() + icmp::HEADER;
    let Some(end) = V::end(packet) else { return Outcome::IcmpError };
    let Some(transport) = V::quoted(packet, ip, &mut flow.quoted) else {
        return Outcome::IcmpError;
    };
    let quote = Quote { ip, transport, end };
    if !quote.holds(QUOTED_TRANSPORT) {
        return Outcome::IcmpError;
    }
    flow.answers = flow.quoted.reversed();
    if !world.find(Table::Established, &flow.answers, &mut flow.entry)
        && !world.find(Table::HalfOpen, &flow.answers, &mut flow.entry)
    {
        return Outcome::IcmpError;
    }
    match send::<V, P, W>(flow, packet, world, hook, quote) {
        Ok(()) if flow.entry.is_reply() => Outcome::RepliedError,
        Ok(()) => Outcome::ForwardedError,
        // RFC 1812, 4.3.2.7: no error is told of an error.
        Err(outcome) if matches!(outcome.ending(), Ending::Answered) => Outcome::Unrejected,
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn send<V, P, W>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    world: &W,
    hook: Hook,
    quote: Quote,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    flow.applies(hook)?;
    if flow.entry.goes_out() {
        flow.find_way(world)?;
        rewrite_error::<V, P>(flow, packet, quote, 1)?;
        return flow.address(packet);
    }
    rewrite_error::<V, P>(flow, packet, quote, 0)?;
    if flow.entry.goes_back() {
        rewrite::turn_back(packet)?;
    }
    Ok(())
}

/// Rewrites the packet quoted to what its sender sent, and the error to go to that sender.
#[inline(always)]
fn rewrite_error<V: IpVersion, P: Packet + ?Sized>(
    flow: &Flow<V::Address>,
    packet: &mut P,
    quote: Quote,
    hops: u8,
) -> Result<(), Unwritable> {
    let answer = &flow.entry.rewritten;
    let inner = V::write(packet, quote.ip, &answer.destination, &answer.source, 0)?;
    let ports = set_ports(packet, quote.transport, answer.destination_port, answer.source_port)?;
    let segment = inner.and(ports);
    let check = quoted_checksum(packet, quote, answer.protocol, segment);
    // A header that carries its own checksum has the same sum before and after.
    let changed = match V::Address::FAMILY {
        Family::V4 => ports.and(check),
        Family::V6 => segment.and(check),
    };
    let outer = V::write(packet, LINK_HEADER, &sender::<V>(flow), &answer.destination, hops)?;
    packet.update(TransportChecksum {
        offset: flow.headers.transport() + icmp::CHECKSUM,
        zero_is_none: false,
        pseudo_header: match V::Address::FAMILY {
            Family::V4 => Difference::NONE,
            Family::V6 => outer,
        },
        segment: changed,
        is_v6: matches!(V::Address::FAMILY, Family::V6),
    })
}

/// Whom the error comes from: the other end, if it said so itself, as it is known there. A router
/// between is named as it is, unless the packet leaves with our own address or its route would
/// not be believed.
#[inline(always)]
fn sender<V: IpVersion>(flow: &Flow<V::Address>) -> V::Address {
    let from = flow.headers.tuple.source;
    if from == flow.answers.source || flow.entry.goes_out() {
        flow.entry.rewritten.source
    } else {
        from
    }
}

/// Lets the quoted packet's own checksum follow, if the quote is long enough to hold it; returns what
/// has changed by that.
#[inline(always)]
fn quoted_checksum<P: Packet + ?Sized>(
    packet: &mut P,
    quote: Quote,
    protocol: Protocol,
    difference: Difference,
) -> Difference {
    if protocol == Protocol::SCTP || !quote.holds(checksum_offset(protocol) + 2) {
        return Difference::NONE;
    }
    let offset = (quote.transport & (2 * FARTHEST - 1)) + checksum_offset(protocol);
    let Some(field) = packet.header::<2>(offset) else { return Difference::NONE };
    let before = *field;
    *field = if protocol == Protocol::UDP {
        difference.applied_to_udp(before)
    } else {
        difference.applied_to(before)
    };
    Difference::NONE.half(u16::from_ne_bytes(before), u16::from_ne_bytes(*field))
}
