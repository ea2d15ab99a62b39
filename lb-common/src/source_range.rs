//! Ranges of addresses: the allowed sources of a restricted frontend, and the service CIDRs.

use core::fmt;

use crate::address::Address;
use crate::service::ServiceId;

/// The value under every range: the trie is a set.
pub const LISTED: u32 = 1;

/// A range of addresses that belongs to a Service port: the key of `SRC_RANGES_*`, a
/// longest-prefix-match trie. A client may use the Service port's restricted frontends if one of
/// its ranges contains the client's address.
///
/// The ranges of [`SourceRange::CLUSTER`] are the cluster's service CIDRs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct SourceRange<A> {
    /// Bits that count, those of `service` included: 32 and the length of the address's prefix.
    pub bits: u32,
    /// The Service port.
    pub service: ServiceId,
    /// The first address; the bits beyond the prefix are zero.
    pub address: A,
}

impl<A: Address> SourceRange<A> {
    /// The id of the cluster's service CIDRs: no Service port has it.
    pub const CLUSTER: ServiceId = ServiceId(0);

    /// The range of `service` that begins at `address` and whose prefix has `length` bits.
    #[must_use]
    pub const fn new(service: ServiceId, address: A, length: u8) -> Self {
        Self { bits: 32 + length as u32, service, address }
    }

    /// The range of one address: the key of a look-up.
    #[inline(always)]
    #[must_use]
    pub const fn of(service: ServiceId, address: A) -> Self {
        Self { bits: 32 + 8 * size_of::<A>() as u32, service, address }
    }

    /// Whether this range contains `other`.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        let (ours, theirs) =
            (bytemuck::bytes_of(&self.address), bytemuck::bytes_of(&other.address));
        let length = self.bits.saturating_sub(32);
        let same = |(i, (a, b)): (usize, (&u8, &u8))| {
            let kept = length.saturating_sub(i as u32 * 8).min(8);
            let mask = !(0xff_u16 >> kept) as u8;
            a & mask == b & mask
        };
        self.service == other.service
            && self.bits <= other.bits
            && ours.iter().zip(theirs).enumerate().all(same)
    }
}

impl<A: Address> fmt::Display for SourceRange<A> {
    /// `192.0.2.0/24`, without the Service port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits.saturating_sub(32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::V4;

    #[test]
    fn a_range_holds_the_addresses_of_its_prefix_and_no_others() {
        let range = SourceRange::new(ServiceId(1), V4([192, 0, 2, 128]), 25);
        let of = |service, last| SourceRange::of(ServiceId(service), V4([192, 0, 2, last]));
        assert!(range.holds(&of(1, 128)) && range.holds(&of(1, 255)));
        assert!(!range.holds(&of(1, 127)) && !range.holds(&of(2, 200)));
        assert!(SourceRange::new(ServiceId(1), V4([0; 4]), 0).holds(&of(1, 3)));
        assert!(of(1, 3).holds(&of(1, 3)) && !of(1, 3).holds(&of(1, 2)));
    }
}
