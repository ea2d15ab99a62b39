//! Addresses of both families.
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
    /// Both families.
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

/// An address of one family, at its own width: maps are keyed by it, so IPv4 keys do not have IPv6's
/// sixteen bytes.
pub trait Address:
    bytemuck::Pod + Eq + Ord + core::hash::Hash + fmt::Debug + fmt::Display + Send + Sync
{
    /// Which family this is.
    const FAMILY: Family;

    /// The address as 32-bit words in the machine's byte order, for the hash; for IPv4 the last three
    /// are zero.
    fn words(&self) -> [u32; 4];

    /// The address of these words; for IPv4 of the first one.
    fn from_words(words: [u32; 4]) -> Self;

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

    #[inline(always)]
    fn from_words([word, ..]: [u32; 4]) -> Self {
        Self(word.to_ne_bytes())
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

    #[inline(always)]
    fn from_words(words: [u32; 4]) -> Self {
        bytemuck::cast(words)
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

#[cfg(test)]
mod tests {
    use super::*;

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
