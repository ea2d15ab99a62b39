//! The tuple of a packet.

use core::fmt;
use core::net::IpAddr;

use super::ip::Address;
use super::port::{Port, Ports, Protocol};

/// Source, destination and protocol of a packet on the wire at a hook. The key of the conntrack tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Always zero: keys are compared byte by byte. Two integers, not an array, because three bytes
    /// of zeroes make the compiler call `memset`.
    pub zero: u8,
    /// Always zero.
    pub zeroes: u16,
}

impl<A: Address> Tuple<A> {
    /// The tuple of a packet from `source` to `destination`.
    #[inline(always)]
    #[must_use]
    pub const fn new(
        source: A,
        source_port: Port,
        destination: A,
        destination_port: Port,
        protocol: Protocol,
    ) -> Self {
        Self { source, destination, source_port, destination_port, protocol, zero: 0, zeroes: 0 }
    }

    /// A zeroed tuple, to read one into.
    #[must_use]
    pub fn empty() -> Self {
        let (address, port) = (A::zeroed(), Port::new(0));
        Self::new(address, port, address, port, Protocol(0))
    }

    /// Sets the protocol and the zeroes beside it, in one write of a word: the hash then reads that word,
    /// and a read of several smaller writes stalls (no store forwarding).
    #[inline(always)]
    pub fn set_protocol(&mut self, protocol: Protocol)
    where
        Self: bytemuck::Pod,
    {
        if let Some(word) = bytemuck::bytes_of_mut(self).last_chunk_mut() {
            *word = u32::from(protocol.0).to_le_bytes();
        }
    }

    /// Both ports, as in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn ports(&self) -> Ports {
        let ([a, b], [c, d]) = (self.source_port.0, self.destination_port.0);
        Ports([a, b, c, d])
    }

    /// The tuple of a packet in the other direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self::new(
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
            self.protocol,
        )
    }

    /// Becomes the tuple of a packet in the other direction of `other`'s, field by field: a whole tuple made first would
    /// stand on the BPF stack.
    #[inline(always)]
    pub fn set_reversed(&mut self, other: &Self) {
        self.source = other.destination;
        self.destination = other.source;
        self.source_port = other.destination_port;
        self.destination_port = other.source_port;
        self.protocol = other.protocol;
        (self.zero, self.zeroes) = (0, 0);
    }

    /// Becomes the tuple of a packet in the other direction.
    #[inline(always)]
    pub fn reverse(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
        core::mem::swap(&mut self.source_port, &mut self.destination_port);
    }

    /// Whether this is the tuple of packets in the other direction of `other`'s.
    #[inline(always)]
    #[must_use]
    pub fn is_reverse_of(&self, other: &Self) -> bool {
        self.source == other.destination
            && self.destination == other.source
            && self.source_port == other.destination_port
            && self.destination_port == other.source_port
            && self.protocol == other.protocol
    }
}

impl<A: Address> fmt::Display for Tuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = endpoint(self.source.to_ip(), self.source_port);
        let destination = endpoint(self.destination.to_ip(), self.destination_port);
        write!(f, "{source} > {destination}/{}", self.protocol)
    }
}

/// `address:port`, with brackets around an IPv6 address.
#[must_use]
pub const fn endpoint(address: IpAddr, port: Port) -> core::net::SocketAddr {
    core::net::SocketAddr::new(address, port.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{V4, V6};

    extern crate std;
    use std::string::ToString;

    #[test]
    fn a_tuple_reversed_twice_is_itself() {
        let tuple = Tuple::new(
            V4([10, 0, 0, 1]),
            Port::new(4),
            V4([10, 0, 0, 2]),
            Port::new(5),
            Protocol::TCP,
        );
        assert_eq!(tuple.reversed().reversed(), tuple);
        assert_eq!(tuple.reversed().source_port, Port::new(5));
        assert!(tuple.reversed().is_reverse_of(&tuple));
        assert!(!tuple.is_reverse_of(&tuple));
    }

    #[test]
    fn tuples_print_with_brackets_around_ipv6_addresses() {
        let tuple = Tuple::new(
            V6::from_ip("fd00::1".parse().unwrap()).unwrap(),
            Port::new(40000),
            V6::from_ip("fd00::2".parse().unwrap()).unwrap(),
            Port::new(80),
            Protocol::UDP,
        );
        assert_eq!(tuple.to_string(), "[fd00::1]:40000 > [fd00::2]:80/udp");
    }
}
