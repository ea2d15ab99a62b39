//! One of a flow's two entries, and where it applies.

use super::state::State;
use super::ticks::Ticks;
use crate::address::{Address, Tuple};
use crate::backend::BackendId;

/// Where a hook sees packets, relative to the node's stack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HookPoint {
    /// On their way into the node's stack.
    Ingress,
    /// On their way out of it.
    Egress,
}

/// Bytes by which the acknowledgment number of a flow's packets may be ahead of `expected` before it is
/// written: not each packet writes to its entry.
pub const EXPECTED_STEP: i32 = 64 << 10;

/// One of a flow's two entries: the complete action for packets of its tuple. In `CONNTRACK_*` and
/// `HALF_OPEN_*` it is packed closer, see [`table`](super::table).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct ConntrackEntry<A> {
    /// The tuple packets leave with.
    pub rewritten: Tuple<A>,
    /// The flow's backend.
    pub backend: BackendId,
    /// That backend's generation when the flow began, modulo
    /// [`GENERATIONS`](crate::backend::GENERATIONS).
    pub generation: u32,
    /// When a packet of this entry was last seen.
    pub last_seen: Ticks,
    /// How far the flow has come.
    pub state: State,
    /// What packets of this entry carry that nobody guesses who does not see the flow; 0 if not known.
    /// TCP: the lowest acknowledgment number (RFC 9293, 3.1) that the next one may have. SCTP: the
    /// verification tag (RFC 9260, 3.1). UDP has nothing of the kind: the tick in which the flow began.
    pub expected: u32,
    /// [`ConntrackEntry::REPLY`], [`ConntrackEntry::AT_EGRESS`], [`ConntrackEntry::SNAT`],
    /// [`ConntrackEntry::HAIRPIN`], [`ConntrackEntry::DIRECT`],
    /// [`ConntrackEntry::FROM_POD`], [`ConntrackEntry::FROM_HOST`].
    pub flags: u8,
    /// Always zero.
    pub zero: u8,
    /// Always zero.
    pub zeroes: u16,
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
    /// Of a flow to a backend itself, not through a Service: nothing changes but the source port, and
    /// that only where a flow through a Service has the reply tuple.
    pub const DIRECT: u8 = 1 << 4;
    /// Of a flow whose client is a pod of this node.
    pub const FROM_POD: u8 = 1 << 5;
    /// Of a flow whose client is this node itself: its packets are translated where they leave the stack, and its
    /// replies before they come to it. Both bits at once: a pod's flow never has SNAT.
    pub const FROM_HOST: u8 = Self::FROM_POD | Self::SNAT;

    /// An empty entry to read into.
    #[inline(always)]
    #[must_use]
    pub fn empty() -> Self {
        Self {
            rewritten: Tuple::empty(),
            backend: BackendId(0),
            generation: 0,
            last_seen: Ticks(0),
            state: State::NEW,
            expected: 0,
            flags: 0,
            zero: 0,
            zeroes: 0,
        }
    }

    /// Whether a packet with this TCP acknowledgment number moves `expected`: the number is known, and
    /// ahead of `expected` by more than [`EXPECTED_STEP`], or at all if no packet was seen in this tick.
    #[inline(always)]
    #[must_use]
    pub const fn moves_expected(&self, acknowledgment: u32, is_new_tick: bool) -> bool {
        let ahead = acknowledgment.wrapping_sub(self.expected) as i32;
        acknowledgment != 0
            && (ahead > EXPECTED_STEP || is_new_tick && ahead > 0 || self.expected == 0)
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
        self.flags & Self::FROM_HOST == Self::SNAT
    }

    /// Whether packets leave by their ingress device.
    #[inline(always)]
    #[must_use]
    pub const fn is_hairpin(&self) -> bool {
        self.flags & Self::HAIRPIN != 0
    }

    /// Whether the flow goes to a backend itself, not through a Service.
    #[inline(always)]
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.flags & Self::DIRECT != 0
    }

    /// Whether the flow's client is a pod of this node.
    #[inline(always)]
    #[must_use]
    pub const fn is_from_pod(&self) -> bool {
        self.flags & Self::FROM_HOST == Self::FROM_POD
    }

    /// Whether the flow's client is this node itself.
    #[inline(always)]
    #[must_use]
    pub const fn is_from_host(&self) -> bool {
        self.flags & Self::FROM_HOST == Self::FROM_HOST
    }

    /// The flow's reply entry, where this is the original one under the key `tuple`.
    #[must_use]
    pub fn reply_entry(&self, tuple: &Tuple<A>) -> Self {
        let mut reply = *self;
        reply.set_reply_of(self, tuple);
        reply
    }

    /// Becomes the reply entry of `original` under the key `tuple`, field by field, as in
    /// [`Tuple::set_reversed`].
    #[inline(always)]
    pub fn set_reply_of(&mut self, original: &Self, tuple: &Tuple<A>) {
        self.rewritten.set_reversed(tuple);
        self.backend = original.backend;
        self.generation = original.generation;
        self.last_seen = original.last_seen;
        self.state = original.state;
        self.expected = original.expected;
        self.flags = Self::reply_flags(original.flags);
        (self.zero, self.zeroes) = (0, 0);
    }

    /// The flags of the reply entry of an original one.
    #[inline(always)]
    const fn reply_flags(flags: u8) -> u8 {
        if flags & Self::FROM_HOST == Self::FROM_HOST {
            // Replies come in, unless the node itself sends them.
            let hook_point = if flags & Self::HAIRPIN == 0 { 0 } else { Self::AT_EGRESS };
            return Self::REPLY | hook_point | flags & (Self::FROM_HOST | Self::HAIRPIN);
        }
        let leaves_at_once = flags & (Self::SNAT | Self::HAIRPIN);
        let hook_point = if leaves_at_once == 0 { Self::AT_EGRESS } else { leaves_at_once };
        Self::REPLY | hook_point | flags & (Self::DIRECT | Self::FROM_POD)
    }

    /// The key of the flow's other entry.
    #[inline(always)]
    #[must_use]
    pub const fn other_key(&self) -> Tuple<A> {
        self.rewritten.reversed()
    }
}
