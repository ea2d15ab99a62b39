//! Fragmented packets: only the first fragment has ports, which the others need.

use crate::address::{Address, Ports, Protocol};
use crate::conntrack::Ticks;

/// The packet that a fragment belongs to (RFC 791, 3.2; RFC 8200, 4.5), and the hook point where it was
/// seen, as a packet may pass two unchanged: the key of `FRAGMENTS_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Fragmented<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// The identification in network byte order; IPv4's has 16 bits.
    pub identification: u32,
    /// IPv4: the protocol of what was cut. IPv6, which does not count it in: zero.
    pub protocol: Protocol,
    /// The hook's [`HookPoint`](crate::conntrack::HookPoint), as a number.
    pub hook_point: u8,
    /// Always zero.
    pub zeroes: u16,
}

impl<A: Address> Fragmented<A> {
    /// An empty key to parse into.
    #[must_use]
    pub fn empty() -> Self {
        let (source, destination) = (A::zeroed(), A::zeroed());
        Self {
            source,
            destination,
            identification: 0,
            protocol: Protocol(0),
            hook_point: 0,
            zeroes: 0,
        }
    }
}

/// The ports and the progress of a fragmented packet: the value of `FRAGMENTS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FirstFragment {
    /// Both ports, as in the first fragment.
    pub ports: Ports,
    /// When a fragment was first seen. An identification is used again: what is older than
    /// [`FirstFragment::LIFETIME`] does not count.
    pub seen: Ticks,
    /// The transport protocol, which an IPv6 fragment need not name; zero until the first fragment has
    /// arrived.
    pub protocol: Protocol,
    /// Later fragments that are queued until the first one arrives.
    pub queued: u8,
    /// Always zero.
    pub zeroes: u16,
    /// Bytes of the packet that have arrived, without IP headers.
    pub received: u32,
    /// Its length in bytes without IP headers, once the last fragment has arrived; else zero.
    pub total: u32,
}

/// One of the queued fragments: the key of `FRAG_QUEUE_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct QueuedFragment<A> {
    /// The packet.
    pub packet: Fragmented<A>,
    /// Its number, below [`FirstFragment::MAX_QUEUED`].
    pub number: u32,
}

impl FirstFragment {
    /// Ticks after which no more fragments of a packet are expected, as a receiver discards it
    /// (RFC 1122, 3.3.2; Linux: 30 s).
    pub const LIFETIME: u32 = Ticks::of_seconds(30);

    /// Most fragments of one packet that are queued.
    pub const MAX_QUEUED: u8 = 8;

    /// Counts a fragment of `length` bytes; `total` is the packet's length if it is the last one, else zero.
    /// Returns whether all of the packet has arrived: its identification may then be used again.
    #[inline(always)]
    #[must_use]
    pub const fn count(&mut self, length: u32, total: u32) -> bool {
        self.received = self.received.wrapping_add(length);
        if total > 0 {
            self.total = total;
        }
        self.total > 0 && self.received >= self.total
    }

    /// Whether the first fragment was seen within the lifetime, so that the ports are known.
    #[inline(always)]
    #[must_use]
    pub const fn is_known(&self, now: Ticks) -> bool {
        self.protocol.0 != 0 && now.since(self.seen) <= Self::LIFETIME
    }
}
