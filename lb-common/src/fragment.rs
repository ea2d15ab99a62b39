//! Fragments: what the first one of a packet tells of the others, which have no ports.

use crate::address::{Ports, Protocol};
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
    /// The protocol of what was cut: IPv6 does not count it in, IPv4 does.
    pub protocol: Protocol,
    /// Always zero.
    pub zero: u8,
    /// Always zero.
    pub zeroes: u16,
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
}

impl FirstFragment {
    /// Ticks after which no more fragments of a packet are expected, as a receiver gives it up
    /// (RFC 1122, 3.3.2; Linux: 30 s).
    pub const LIFETIME: u32 = Ticks::of_seconds(30);
}
