//! Addresses, ports, protocols and the tuple they form.
//!
//! [`V4`] and [`V6`] are aligned to four bytes: the verifier refuses misaligned stack accesses,
//! and keys are built on the BPF stack.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The two address families. A Service port exists once in each family it has an address in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both families, for loops over all there is.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address of one family, at its own width: tables are keyed by it, so IPv4 never pays for
/// IPv6's sixteen bytes.
pub trait Address:
    bytemuck::Pod + Eq + Ord + core::hash::Hash + fmt::Debug + fmt::Display + Send + Sync
{
    /// Which family this is.
    const FAMILY: Family;

    /// The address as 32-bit words in the machine's byte order, as the hash wants them; IPv4 leaves
    /// the last three zero.
    fn words(&self) -> [u32; 4];

    /// `address` at this width, or `None` if it is of the other family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// This address for user space.
    fn to_ip(&self) -> IpAddr;

    /// Whether this is the unspecified address, which rows use for "none".
    fn is_unspecified(&self) -> bool {
        *self == Self::zeroed()
    }
}

/// An IPv4 address, network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(4))]
pub struct V4(pub [u8; 4]);

/// An IPv6 address, network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(4))]
pub struct V6(pub [u8; 16]);

impl Address for V4 {
    const FAMILY: Family = Family::V4;

    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        [u32::from_ne_bytes(self.0), 0, 0, 0]
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(Self(address.octets())),
            IpAddr::V6(_) => None,
        }
    }

    fn to_ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.0))
    }
}

impl Address for V6 {
    const FAMILY: Family = Family::V6;

    #[inline(always)]
    fn words(&self) -> [u32; 4] {
        bytemuck::cast(*self)
    }

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(Self(address.octets())),
        }
    }

    fn to_ip(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(self.0))
    }
}

impl fmt::Display for V4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

impl fmt::Display for V6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(self.0).fmt(f)
    }
}

impl fmt::Debug for V4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for V6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Both ports of a packet, as they stand side by side at the start of a TCP or UDP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(4))]
pub struct Ports(pub [u8; 4]);

impl Ports {
    /// The source port.
    #[inline(always)]
    #[must_use]
    pub const fn source(self) -> Port {
        let [high, low, ..] = self.0;
        Port([high, low])
    }

    /// The destination port.
    #[inline(always)]
    #[must_use]
    pub const fn destination(self) -> Port {
        let [.., high, low] = self.0;
        Port([high, low])
    }
}

/// A TCP or UDP port, network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(2))]
pub struct Port(pub [u8; 2]);

impl Port {
    /// The port that is written as `number`.
    #[inline(always)]
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be_bytes())
    }

    /// The port as people write it.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// A transport protocol by its IP number; rows hold any number, Weir balances those with a name here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, RFC 792.
    pub const ICMP: Self = Self(1);
    /// TCP, RFC 9293.
    pub const TCP: Self = Self(6);
    /// UDP, RFC 768.
    pub const UDP: Self = Self(17);
    /// SCTP, RFC 9260.
    pub const SCTP: Self = Self(132);
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: Self = Self(58);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.write_str("icmp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::SCTP => f.write_str("sctp"),
            Self::ICMPV6 => f.write_str("icmpv6"),
            Self(other) => write!(f, "protocol-{other}"),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Source, destination and protocol of a packet as it stands on the wire at a hook. The key of the
/// connection tables.
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

    /// The tuple of no packet: room to read one into.
    #[must_use]
    pub fn empty() -> Self {
        let (address, port) = (A::zeroed(), Port::new(0));
        Self::new(address, port, address, port, Protocol(0))
    }

    /// Sets the protocol, and the zeroes beside it. They are written as one word: of bytes written
    /// one by one the processor cannot make a word again at once, as whoever hashes the tuple must.
    #[inline(always)]
    pub fn set_protocol(&mut self, protocol: Protocol)
    where
        Self: bytemuck::Pod,
    {
        if let Some(word) = bytemuck::bytes_of_mut(self).last_chunk_mut() {
            *word = u32::from(protocol.0).to_le_bytes();
        }
    }

    /// Both ports, as they stand side by side in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn ports(&self) -> Ports {
        let ([a, b], [c, d]) = (self.source_port.0, self.destination_port.0);
        Ports([a, b, c, d])
    }

    /// The tuple of an answer to this packet.
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
}

impl<A: Address> fmt::Display for Tuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = endpoint(self.source.to_ip(), self.source_port);
        let destination = endpoint(self.destination.to_ip(), self.destination_port);
        write!(f, "{source} > {destination}/{}", self.protocol)
    }
}

/// `address:port` as people write it, with brackets around an IPv6 address.
#[must_use]
pub const fn endpoint(address: IpAddr, port: Port) -> core::net::SocketAddr {
    core::net::SocketAddr::new(address, port.number())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn tuples_print_as_people_write_them() {
        let tuple = Tuple::new(
            V6::from_ip("fd00::1".parse().unwrap()).unwrap(),
            Port::new(40000),
            V6::from_ip("fd00::2".parse().unwrap()).unwrap(),
            Port::new(80),
            Protocol::UDP,
        );
        assert_eq!(tuple.to_string(), "[fd00::1]:40000 > [fd00::2]:80/udp");
    }

    #[test]
    fn an_address_goes_through_user_space_and_back() {
        for text in ["10.1.2.3", "fd00::7"] {
            let address: IpAddr = text.parse().unwrap();
            let back = match Family::of(&address) {
                Family::V4 => V4::from_ip(address).map(|a| a.to_ip()),
                Family::V6 => V6::from_ip(address).map(|a| a.to_ip()),
            };
            assert_eq!(back, Some(address));
        }
        assert_eq!(V4::from_ip("fd00::7".parse().unwrap()), None);
    }
}
