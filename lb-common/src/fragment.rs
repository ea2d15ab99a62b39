//! Fragments: what the first one of a packet tells of the others, which have no ports.

use crate::address::{Address, Ports, Protocol};
use crate::connection::Ticks;

/// Which packet a fragment belongs to (RFC 791, 3.2; RFC 8200, 4.5), and at which hook it was seen,
/// as a packet may pass two as it is: the key of `FRAGMENTS_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Fragmented<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// The identification, as it stands on the wire; IPv4's has 16 bits.
    pub identification: u32,
    /// IPv4: the protocol of what was cut. IPv6, which does not count it in: zero.
    pub protocol: Protocol,
    /// The hook's [`Place`](crate::connection::Place), as a number.
    pub place: u8,
    /// Always zero.
    pub zeroes: u16,
}

impl<A: Address> Fragmented<A> {
    /// No packet: room to read one into.
    #[must_use]
    pub fn nothing() -> Self {
        let (source, destination) = (A::zeroed(), A::zeroed());
        Self { source, destination, identification: 0, protocol: Protocol(0), place: 0, zeroes: 0 }
    }
}

/// What is known of a packet in fragments; the value of `FRAGMENTS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FirstFragment {
    /// Both ports, which the first fragment told.
    pub ports: Ports,
    /// When a fragment was first seen. An identification comes back: what is older than
    /// [`FirstFragment::LIFETIME`] tells nothing.
    pub seen: Ticks,
    /// The transport protocol, which an IPv6 fragment need not tell; zero as long as the first
    /// fragment has not come.
    pub protocol: Protocol,
    /// Later fragments that are held until the first one comes.
    pub held: u8,
    /// Always zero.
    pub zeroes: u16,
    /// Bytes of the packet that have come, IP headers not counted.
    pub received: u32,
    /// Bytes that it has, if the last fragment has come; else zero.
    pub total: u32,
}

/// One of the fragments that are held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct HeldFragment<A> {
    /// The packet.
    pub packet: Fragmented<A>,
    /// Which of them, below [`FirstFragment::MOST_HELD`].
    pub number: u32,
}

impl FirstFragment {
    /// Ticks after which no more fragments of a packet are expected, as a receiver gives it up
    /// (RFC 1122, 3.3.2; Linux: 30 s).
    pub const LIFETIME: u32 = Ticks::of_seconds(30);

    /// Fragments of one packet that are held at most.
    pub const MOST_HELD: u8 = 8;

    /// Counts a fragment of `length` bytes; `total` is what the last one tells, else zero. Returns
    /// whether all of the packet has come: its identification may then be another's.
    #[inline(always)]
    #[must_use]
    pub const fn count(&mut self, length: u32, total: u32) -> bool {
        self.received = self.received.wrapping_add(length);
        if total > 0 {
            self.total = total;
        }
        self.total > 0 && self.received >= self.total
    }

    /// Whether the first fragment was seen lately, and told the ports.
    #[inline(always)]
    #[must_use]
    pub const fn tells(&self, now: Ticks) -> bool {
        self.protocol.0 != 0 && now.since(self.seen) <= Self::LIFETIME
    }
}
