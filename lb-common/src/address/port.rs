//! Ports and transport protocols.

use core::fmt;

/// Both ports of a packet, as at the start of a TCP or UDP header.
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
    /// The port with this number.
    #[inline(always)]
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be_bytes())
    }

    /// The port's number.
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

/// A transport protocol by its IP protocol number.
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
