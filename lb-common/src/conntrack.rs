//! Conntrack entries: what is remembered of a translated flow.
//!
//! A flow has two entries: the original one, keyed by the tuple of the client's packets as they arrive,
//! and the reply one, keyed by the tuple of the backend's packets as they arrive. Each holds the tuple
//! its packets leave with, so each leads to the other: the key of the other entry is the rewritten tuple
//! reversed. Both are inserted, change state and are removed together.
//!
//! A flow begins in `HALF_OPEN_*`, a small LRU table, and moves to `CONNTRACK_*` once its backend has
//! replied and its client has sent again; so a flood of packets without reply, or of spoofed ones,
//! never costs an established flow its entry.

use core::fmt;

use crate::address::{Address, Protocol, Tuple};
use crate::backend::BackendId;
use crate::service::ServiceId;

/// Where a hook sees packets, relative to the node's stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HookPoint {
    /// On their way into the node's stack.
    Ingress,
    /// On their way out of it.
    Egress,
}

/// Time since boot in units of 2^30 ns (1.07 s): taken from a nanosecond clock by a shift. It wraps
/// after 146 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Ticks(pub u32);

impl Ticks {
    /// The tick that `nanoseconds` since boot fall into.
    #[inline(always)]
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self((nanoseconds >> 30) as u32)
    }

    /// Ticks from `earlier` to this one; 0 if `earlier` lies in the future, as happens when another
    /// CPU's clock reading is a moment ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if elapsed > u32::MAX / 2 { 0 } else { elapsed }
    }

    /// Ticks that last at least `seconds`.
    #[must_use]
    pub const fn of_seconds(seconds: u32) -> u32 {
        ((seconds as u64 * 1_000_000_000).div_ceil(1 << 30)) as u32
    }

    /// The whole seconds that `ticks` last.
    #[must_use]
    pub const fn to_seconds(ticks: u32) -> u32 {
        (((ticks as u64) << 30) / 1_000_000_000) as u32
    }
}

/// How far a flow has come; the same in both of its entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct State(pub u8);

impl State {
    /// Nothing seen but the client's first packet.
    pub const NEW: Self = Self(0);
    /// The backend has replied.
    pub const REPLIED: Self = Self(1);
    /// The client has sent after that reply: the flow is in `CONNTRACK_*`.
    pub const ESTABLISHED: Self = Self(1 << 1);
    /// The client has sent FIN.
    pub const FIN_CLIENT: Self = Self(1 << 2);
    /// The backend has sent FIN.
    pub const FIN_BACKEND: Self = Self(1 << 3);
    /// One side has sent RST, and nothing but RST has been seen since.
    pub const RST: Self = Self(1 << 4);

    /// Whether all of `other`'s marks are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This state with `other`'s marks too.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This state without `other`'s marks.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the flow is over: both sides have closed, or one has reset it. A SYN may then begin
    /// another with the same tuple.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.has(Self::RST) || self.has(Self::FIN_CLIENT.with(Self::FIN_BACKEND))
    }

    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        if self.has(Self::RST) {
            "reset"
        } else if self.is_over() {
            "closed"
        } else if self.has(Self::FIN_CLIENT) || self.has(Self::FIN_BACKEND) {
            "closing"
        } else if self.has(Self::ESTABLISHED) {
            "established"
        } else if self.has(Self::REPLIED) {
            "replied"
        } else {
            "new"
        }
    }

    /// Seconds without a packet in either direction after which the flow is expired.
    ///
    /// TCP's are kube-proxy's and netfilter's (`nf_conntrack_tcp_timeout_*`): 24 hours established,
    /// one hour half closed, 120 s after both FINs, 10 s after a reset; UDP's are 30 s before and
    /// 120 s after the flow is established. SCTP's, whose ends send heartbeats, are 210 s established,
    /// 30 s before and 10 s after.
    #[must_use]
    pub const fn timeout_seconds(self, protocol: Protocol) -> u32 {
        if protocol.0 == Protocol::UDP.0 {
            return if self.has(Self::ESTABLISHED) { 120 } else { 30 };
        }
        if protocol.0 == Protocol::SCTP.0 {
            let is_over = self.has(Self::RST) || self.is_over();
            return if is_over {
                10
            } else if self.has(Self::ESTABLISHED) {
                210
            } else {
                30
            };
        }
        if self.has(Self::RST) {
            10
        } else if self.is_over() {
            120
        } else if self.has(Self::FIN_CLIENT) || self.has(Self::FIN_BACKEND) {
            3600
        } else if self.has(Self::ESTABLISHED) {
            24 * 3600
        } else {
            60
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of a flow's two entries: the complete action for packets of its tuple. The value of
/// `CONNTRACK_*` and `HALF_OPEN_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct ConntrackEntry<A> {
    /// The tuple packets leave with.
    pub rewritten: Tuple<A>,
    /// The Service port the flow belongs to.
    pub service: ServiceId,
    /// The flow's backend.
    pub backend: BackendId,
    /// That backend's generation when the flow began.
    pub generation: u32,
    /// When a packet of this entry was last seen.
    pub last_seen: Ticks,
    /// How far the flow has come.
    pub state: State,
    /// [`ConntrackEntry::REPLY`], [`ConntrackEntry::AT_EGRESS`], [`ConntrackEntry::SNAT`], [`ConntrackEntry::HAIRPIN`].
    pub flags: u8,
    /// Always zero.
    pub zero: u16,
}

impl<A: Address> ConntrackEntry<A> {
    /// The reply entry: for the backend's packets; without it, for the client's.
    pub const REPLY: u8 = 1;
    /// It applies to packets on their way out of the stack; without it, on their way in.
    pub const AT_EGRESS: u8 = 1 << 1;
    /// Their source becomes one of this node's own addresses, hence they leave by the route to the new
    /// destination at once: the stack would drop them.
    pub const SNAT: u8 = 1 << 2;
    /// Hairpin: packets leave by their ingress device, because a pod reached itself through a Service.
    pub const HAIRPIN: u8 = 1 << 3;

    /// An empty entry to read into.
    #[inline(always)]
    #[must_use]
    pub fn empty() -> Self {
        Self {
            rewritten: Tuple::empty(),
            service: ServiceId(0),
            backend: BackendId(0),
            generation: 0,
            last_seen: Ticks(0),
            state: State::NEW,
            flags: 0,
            zero: 0,
        }
    }

    /// Whether this is the reply entry.
    #[inline(always)]
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags & Self::REPLY != 0
    }

    /// The hook point where this entry applies.
    #[inline(always)]
    #[must_use]
    pub const fn hook_point(&self) -> HookPoint {
        if self.flags & Self::AT_EGRESS != 0 { HookPoint::Egress } else { HookPoint::Ingress }
    }

    /// Whether the source becomes this node's own, and its packets leave at once.
    #[inline(always)]
    #[must_use]
    pub const fn is_snat(&self) -> bool {
        self.flags & Self::SNAT != 0
    }

    /// Whether packets leave by their ingress device.
    #[inline(always)]
    #[must_use]
    pub const fn is_hairpin(&self) -> bool {
        self.flags & Self::HAIRPIN != 0
    }

    /// The flow's reply entry, where this is the original one under the key `tuple`.
    #[inline(always)]
    #[must_use]
    pub const fn reply_entry(&self, tuple: &Tuple<A>) -> Self {
        let leaves_at_once = self.flags & (Self::SNAT | Self::HAIRPIN);
        let hook_point = if leaves_at_once == 0 { Self::AT_EGRESS } else { leaves_at_once };
        Self { rewritten: tuple.reversed(), flags: Self::REPLY | hook_point, ..*self }
    }

    /// The key of the flow's other entry.
    #[inline(always)]
    #[must_use]
    pub const fn other_key(&self) -> Tuple<A> {
        self.rewritten.reversed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_last_at_least_the_seconds_asked_for() {
        for seconds in [1, 10, 30, 120, 86_400] {
            assert!(Ticks::to_seconds(Ticks::of_seconds(seconds)) >= seconds);
            assert!(Ticks::to_seconds(Ticks::of_seconds(seconds)) <= seconds + 1);
        }
    }

    #[test]
    fn a_clock_reading_from_the_future_counts_as_now() {
        assert_eq!(Ticks(5).since(Ticks(6)), 0);
        assert_eq!(Ticks(6).since(Ticks(5)), 1);
        assert_eq!(Ticks(2).since(Ticks(u32::MAX)), 3);
    }

    #[test]
    fn a_flow_is_over_after_both_fins_or_one_reset() {
        assert!(!State::ESTABLISHED.with(State::FIN_CLIENT).is_over());
        assert!(State::FIN_CLIENT.with(State::FIN_BACKEND).is_over());
        assert!(State::ESTABLISHED.with(State::RST).is_over());
        assert!(!State::ESTABLISHED.with(State::RST).without(State::RST).is_over());
    }
}
