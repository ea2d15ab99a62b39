//! The header of a place: one word of 64 bits, changed by compare-and-swap alone.
//!
//! | bits | of a place that holds an entry | of one that is being written |
//! |---|---|---|
//! | 0–1 | phase | phase |
//! | 2–9 | eight bits of the tuple's hash | |
//! | 10–11 | protocol | |
//! | 12–19 | version | version |
//! | 20–25 | [`ConntrackEntry::flags`](super::super::ConntrackEntry::flags) | 32 bits of the tuple's hash |
//! | 26–37 | [`State`]: four marks, and eight bits of a RST | (20–51) |
//! | 38–63 | when it was last seen, in units of 2^24 ns (16.8 ms); wraps after 13 days | |

use super::stamp::Stamp;
use crate::address::Protocol;
use crate::conntrack::State;

/// Whether this build has the layout of the tests of another one: protocol and hash change places.
const OTHER_LAYOUT: bool = cfg!(feature = "other-layout");

pub(super) const PHASE_BITS: u32 = 2;
const PHASE: u64 = (1 << PHASE_BITS) - 1;
const TAG_SHIFT: u32 = if OTHER_LAYOUT { 4 } else { 2 };
pub(super) const PROTOCOL_SHIFT: u32 = if OTHER_LAYOUT { 2 } else { 10 };
const VERSION_SHIFT: u32 = 12;
/// Bits of the version.
pub(super) const VERSION_BITS: u32 = 8;
const VERSION: u64 = ((1 << VERSION_BITS) - 1) << VERSION_SHIFT;
pub(super) const FLAGS_SHIFT: u32 = 20;
const FLAGS: u64 = 0x3f;
const HASH_SHIFT: u32 = 20;
const HASH: u64 = 0xffff_ffff << HASH_SHIFT;
pub(super) const MARKS_SHIFT: u32 = 26;
pub(super) const RESET_SHIFT: u32 = 30;
pub(super) const SEEN_SHIFT: u32 = 38;

/// The phases of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// It holds nothing.
    Empty = 0,
    /// A CPU has claimed it and writes an entry.
    Busy = 1,
    /// It holds an entry.
    Live = 2,
    /// Another CPU, which writes the same flow's entry, has taken the claim away: the owner empties it.
    Aborted = 3,
}

/// What a header must say to be of a tuple's entry: the phase, the tag, the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// The bits that count.
    pub mask: u64,
    /// What they are.
    pub bits: u64,
}

impl Pattern {
    /// Of a place that holds nothing.
    pub const EMPTY: Self = Self { mask: PHASE, bits: Phase::Empty as u64 };

    /// Of a place that holds an entry.
    pub const LIVE: Self = Self { mask: PHASE, bits: Phase::Live as u64 };

    /// Of a UDP flow that has had a reply, and is not established.
    pub const ANSWERED: Self = Self {
        mask: (0b11 << PROTOCOL_SHIFT) | marks(State::REPLIED.with(State::ESTABLISHED)),
        bits: (code(Protocol::UDP) << PROTOCOL_SHIFT) | marks(State::REPLIED),
    };

    /// Of an entry whose tuple has this tag and protocol.
    #[inline(always)]
    #[must_use]
    pub const fn live(tag: u8, protocol: Protocol) -> Self {
        let key = ((tag as u64) << TAG_SHIFT) | (code(protocol) << PROTOCOL_SHIFT);
        Self { mask: (1 << VERSION_SHIFT) - 1, bits: Phase::Live as u64 | key }
    }

    /// Of a place in which an entry with this hash is being written.
    #[inline(always)]
    #[must_use]
    pub const fn busy(hash: u32) -> Self {
        Self { mask: PHASE | HASH, bits: Phase::Busy as u64 | ((hash as u64) << HASH_SHIFT) }
    }
}

/// The protocols that flows have, in two bits.
const fn code(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::TCP => 1,
        Protocol::UDP => 2,
        Protocol::SCTP => 3,
        _ => 0,
    }
}

/// A place's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header(pub u64);

impl Header {
    /// Whether it is as `pattern` says.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, pattern: Pattern) -> bool {
        self.0 & pattern.mask == pattern.bits
    }

    /// Whether the place holds an entry.
    #[inline(always)]
    #[must_use]
    pub const fn is_live(self) -> bool {
        self.0 & PHASE == Phase::Live as u64
    }

    /// Whether the place holds nothing.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 & PHASE == Phase::Empty as u64
    }

    /// How often the place was claimed, modulo 256.
    #[inline(always)]
    #[must_use]
    pub const fn version(self) -> u8 {
        (self.0 >> VERSION_SHIFT) as u8
    }

    /// Whether the place still holds what it held when it had the header `earlier`.
    #[inline(always)]
    #[must_use]
    pub const fn is_same_entry(self, earlier: Self) -> bool {
        (self.0 ^ earlier.0) & (VERSION | PHASE) == 0
    }

    /// The header of this place while an entry with this hash is written.
    #[inline(always)]
    #[must_use]
    pub const fn claimed(self, hash: u32) -> Self {
        let version = self.0.wrapping_add(1 << VERSION_SHIFT) & VERSION;
        Self(version | Pattern::busy(hash).bits)
    }

    /// This header after another CPU has taken the claim away.
    #[inline(always)]
    #[must_use]
    pub const fn aborted(self) -> Self {
        Self(self.0 | Phase::Aborted as u64)
    }

    /// This header of a place that holds nothing any more.
    #[inline(always)]
    #[must_use]
    pub const fn emptied(self) -> Self {
        Self(self.0 & VERSION)
    }

    /// This header, claimed before, with an entry.
    #[inline(always)]
    #[must_use]
    pub const fn published(self, pattern: Pattern, flags: u8, state: State, seen: Stamp) -> Self {
        let flags = (flags as u64 & FLAGS) << FLAGS_SHIFT;
        let seen = (seen.0 as u64) << SEEN_SHIFT;
        Self(self.0 & VERSION | pattern.bits | flags | marks(state) | seen)
    }

    /// [`ConntrackEntry::flags`](super::super::ConntrackEntry::flags)
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> FLAGS_SHIFT) as u8 & FLAGS as u8
    }

    /// How far the flow has come.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> State {
        let marks = (self.0 >> MARKS_SHIFT) as u32;
        let (first, client, backend) = (marks & 0b11, marks >> 2 & 1, marks >> 3 & 1);
        let reset = (self.0 >> RESET_SHIFT) as u32 & 0xff;
        State((first | client << 8 | backend << 16 | reset << 24).to_le_bytes())
    }

    /// The protocol.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match (self.0 >> PROTOCOL_SHIFT) & 0b11 {
            1 => Protocol::TCP,
            2 => Protocol::UDP,
            3 => Protocol::SCTP,
            _ => Protocol(0),
        }
    }

    /// When a packet of this entry was last seen.
    #[inline(always)]
    #[must_use]
    pub const fn seen(self) -> Stamp {
        Stamp((self.0 >> SEEN_SHIFT) as u32)
    }

    /// This header, seen at `stamp`.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, stamp: Stamp) -> Self {
        Self(self.0 & ((1 << SEEN_SHIFT) - 1) | (stamp.0 as u64) << SEEN_SHIFT)
    }

    /// This header with what `after` and `before` differ in as `after` has it. A RST and its time are one.
    #[inline(always)]
    #[must_use]
    pub const fn with_change(self, before: State, after: State) -> Self {
        const RESET: u64 = 0xff << RESET_SHIFT;
        let (before, after) = (marks(before), marks(after));
        let mut cleared = before & !after;
        if (before ^ after) & RESET != 0 {
            cleared |= RESET;
        }
        Self(self.0 & !cleared | after & (before ^ after | cleared))
    }
}

/// The marks of a state where they stand in a header.
#[inline(always)]
const fn marks(state: State) -> u64 {
    let bits = state.bits() as u64;
    let marks = bits & 0b11 | bits >> 6 & 0b100 | bits >> 13 & 0b1000;
    marks << MARKS_SHIFT | (bits >> 24) << RESET_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Ticks;

    fn states() -> impl Iterator<Item = State> {
        let marks = [State::REPLIED, State::ESTABLISHED, State::FIN_CLIENT, State::FIN_BACKEND];
        (0..16_usize).flat_map(move |chosen| {
            let mut state = State::NEW;
            for (bit, mark) in marks.iter().enumerate() {
                if chosen >> bit & 1 == 1 {
                    state = state.with(*mark);
                }
            }
            [state, state.with_reset(Ticks(77)), state.with_reset(Ticks(127))]
        })
    }

    #[test]
    fn what_is_published_is_read_again() {
        let pattern = Pattern::live(0xa5, Protocol::SCTP);
        for state in states() {
            for seen in [Stamp(0), Stamp(1), Stamp((1 << Stamp::BITS) - 1)] {
                let busy = Header(0).claimed(0xdead_beef);
                let header = busy.published(pattern, 0b11_0101, state, seen);
                assert!(header.is(pattern) && header.is_live());
                assert_eq!(header.flags(), 0b11_0101);
                assert_eq!(header.state().0, state.0);
                assert_eq!(header.seen(), seen);
                assert_eq!(header.protocol(), Protocol::SCTP);
                assert!(!header.is_same_entry(header.claimed(1)));
                assert!(header.touched(Stamp(9)).is_same_entry(header));
                assert_eq!(header.touched(Stamp(9)).state().0, state.0);
            }
        }
    }

    #[test]
    fn a_change_of_marks_leaves_what_another_cpu_has_changed() {
        let pattern = Pattern::live(1, Protocol::TCP);
        for before in states() {
            for after in states() {
                for other in [State::FIN_CLIENT, State::FIN_BACKEND] {
                    let now = before.with(other);
                    let header = Header(0).claimed(1).published(pattern, 0, now, Stamp(5));
                    let changed = header.with_change(before, after);
                    let kept = if before.has(other) && !after.has(other) {
                        after
                    } else {
                        after.with(other)
                    };
                    assert_eq!(changed.state().0, kept.0);
                    assert_eq!((changed.seen(), changed.flags()), (Stamp(5), 0));
                }
            }
        }
    }
}
