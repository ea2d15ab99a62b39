//! Fragments: what the first one of a packet tells of the others, which have no ports.

use crate::address::{Address, Ports, Protocol};
use crate::connection::Ticks;

/// Which packet a fragment belongs to (RFC 791, 3.2; RFC 8200, 4.5): the key of `FRAGMENTS_*`.
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
    /// Always zero.
    pub zero: u8,
    /// Always zero.
    pub zeroes: u16,
}

impl<A: Address> Fragmented<A> {
    /// No packet: room to read one into.
    #[must_use]
    pub fn nothing() -> Self {
        let (source, destination) = (A::zeroed(), A::zeroed());
        Self { source, destination, identification: 0, protocol: Protocol(0), zero: 0, zeroes: 0 }
    }
}

/// What the first fragment said; the value of `FRAGMENTS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FirstFragment {
    /// Both ports.
    pub ports: Ports,
    /// When it was seen. An identification comes back: what is older than
    /// [`FirstFragment::LIFETIME`] tells nothing.
    pub seen: Ticks,
    /// The transport protocol, which an IPv6 fragment need not tell.
    pub protocol: Protocol,
    /// Always zero.
    pub zero: u8,
    /// Always zero.
    pub zeroes: u16,
}

impl FirstFragment {
    /// Ticks after which no more fragments of a packet are expected, as a receiver gives it up
    /// (RFC 1122, 3.3.2; Linux: 30 s).
    pub const LIFETIME: u32 = Ticks::of_seconds(30);
}
