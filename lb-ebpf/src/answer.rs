//! Answers in the place of somebody else: ICMP errors to whom a packet came from (RFC 792, RFC 1812
//! section 4.3.2; RFC 4443 section 3), replies to echo requests.

use bytemuck::Zeroable;
use lb_common::address::{Address, Family};
use lb_common::connection::Place;
use lb_common::outcome::Outcome;

use crate::balance::{Hook, World};
use crate::checksum::Difference;
use crate::flow::Flow;
use crate::packet::{COPIED, LINK_HEADER, Packet, QUOTED, TransportChecksum, Unwritable};
use crate::wire::{IpVersion, icmp};
use crate::{choose, rewrite};

/// The hop limit of an answer.
pub(crate) const HOPS: u8 = 64;

/// Room to write an answer in, from its IP header on.
#[repr(C, align(8))]
pub(crate) struct Draft {
    /// Its bytes; zeroes behind the last one, which the checksum does not mind.
    pub bytes: [u8; COPIED],
}

impl Draft {
    pub const fn new() -> Self {
        Self { bytes: [0; COPIED] }
    }

    #[inline(always)]
    fn clear(&mut self) {
        for word in self.bytes.as_chunks_mut::<8>().0 {
            *word = 0u64.to_ne_bytes();
        }
    }

    /// The sum of all words from `first` on, a multiple of four.
    #[inline(always)]
    fn sum(&self, first: usize) -> Difference {
        let words = self.bytes.as_chunks::<4>().0.iter().skip(first / 4);
        words.fold(Difference::NONE, |sum, word| sum.plus(u32::from_ne_bytes(*word)))
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Message {
    /// Nobody is there.
    PortUnreachable,
    /// The next link does not carry packets of this size.
    TooBig,
    /// The hop limit was reached.
    TimeExceeded,
}

/// Answers a packet that ended with `outcome` with the error that says so. Returns the outcome that
/// is to be counted: not every packet is answered.
#[inline(never)]
pub(crate) fn give<V, P, W>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    world: &W,
    outcome: Outcome,
) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    // RFC 1812, 4.3.2.7: never about a fragment other than the first, and never to nobody.
    let to = flow.headers.tuple.source;
    if flow.headers.is_later_fragment() || to.is_unspecified() || !world.may_answer() {
        return Outcome::Unrejected;
    }
    let (message, own) = if matches!(outcome, Outcome::RejectedTooBig) {
        (Message::TooBig, world.here())
    } else if matches!(outcome, Outcome::RejectedTtlExpired) {
        (Message::TimeExceeded, world.here())
    } else {
        (Message::PortUnreachable, V::Address::zeroed())
    };
    // As from whom it was sent to, unless it is this node that cannot send it on.
    let from = if own.is_unspecified() { flow.headers.tuple.destination } else { own };
    match write::<V, P>(flow, packet, (from, to), message) {
        Ok(()) => outcome,
        Err(Unwritable) => Outcome::Unwritable,
    }
}

/// Makes the packet an error about itself, on its way back.
#[inline(always)]
fn write<V: IpVersion, P: Packet + ?Sized>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    (from, to): (V::Address, V::Address),
    message: Message,
) -> Result<(), Unwritable> {
    let whole = packet.length().saturating_sub(LINK_HEADER as u32);
    let quoted = if whole < QUOTED { whole } else { QUOTED };
    let (headers, length) = (V::HEADER + icmp::HEADER, icmp::HEADER as u32 + quoted);
    let draft = &mut flow.draft;
    draft.clear();
    packet.copy(LINK_HEADER, quoted, &mut draft.bytes, headers)?;
    V::head(&mut draft.bytes, &from, &to, length);
    icmp::head::<V>(&mut draft.bytes, message, flow.mtu);
    let sum = draft.sum(V::HEADER).and(V::pseudo_header(&from, &to, length));
    icmp::set_checksum::<V>(&mut draft.bytes, sum);
    packet.replace(&draft.bytes, headers as u32 + quoted)?;
    rewrite::turn_back(packet)
}

/// Answers an echo request to a Service's address, which nobody else would.
#[inline(always)]
pub(crate) fn ping<V, P, W>(
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
    if !matches!(hook.place, Place::Ingress) {
        return Outcome::Ping;
    }
    let to = flow.headers.tuple.destination;
    match world.address(&to) {
        Some(row) if row.answers_ping() => {}
        Some(_) => return Outcome::Ping,
        None if choose::is_unallocated(world, &mut flow.choice, &to) => {
            return Outcome::UnallocatedAddress;
        }
        None => return Outcome::Ping,
    }
    if !world.may_answer() {
        return Outcome::Unrejected;
    }
    match reply::<V, P>(flow, packet) {
        Ok(()) => Outcome::AnsweredPing,
        Err(Unwritable) => Outcome::Unwritable,
    }
}

#[inline(always)]
fn reply<V: IpVersion, P: Packet + ?Sized>(
    flow: &Flow<V::Address>,
    packet: &mut P,
) -> Result<(), Unwritable> {
    let (family, offset) = (V::Address::FAMILY, flow.headers.transport());
    let (from, to) = (flow.headers.tuple.destination, flow.headers.tuple.source);
    // Both addresses change places, which no sum minds.
    V::write(packet, LINK_HEADER, &from, &to, flow.headers.hops.wrapping_sub(HOPS))?;
    let segment = icmp::reply(packet, family, offset).ok_or(Unwritable)?;
    packet.update(TransportChecksum {
        offset: offset + icmp::CHECKSUM,
        zero_is_none: false,
        pseudo_header: Difference::NONE,
        segment,
        is_v6: matches!(family, Family::V6),
    })?;
    rewrite::turn_back(packet)
}
