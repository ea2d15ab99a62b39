//! Internet checksums, changed by what changed (RFC 1624), never computed anew.

/// What has changed under a checksum: the one's complement sum of all new words and all inverted
/// old ones, unfolded. Words are read in the machine's byte order, which the sum does not mind
/// (RFC 1071, section 2 B).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Difference(u64);

impl Difference {
    /// Nothing has changed.
    pub const NONE: Self = Self(0);

    /// Counts a 32-bit word in that has changed from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Counts a 16-bit word in that has changed from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Counts a 32-bit word in that was not there before.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// Both changes together.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The same difference in 16 bits, for who asks it more than one thing.
    #[inline(always)]
    #[must_use]
    pub const fn short(self) -> Self {
        Self(self.halved() as u64)
    }

    /// Whether no checksum changes by it.
    #[inline(always)]
    #[must_use]
    pub const fn is_nothing(self) -> bool {
        is_zero(self.halved())
    }

    /// The change folded into 32 bits, as the kernel's helpers take it.
    #[inline(always)]
    #[must_use]
    pub const fn folded(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    /// The change folded into 16 bits.
    #[inline(always)]
    const fn halved(self) -> u16 {
        let sum = (self.0 & 0xffff) + ((self.0 >> 16) & 0xffff) + (self.0 >> 32);
        sum_of(sum as u16, (sum >> 16) as u16)
    }

    /// The checksum of what was counted in, where nothing was before.
    #[inline(always)]
    #[must_use]
    pub const fn alone(self) -> [u8; 2] {
        self.applied_to([0xff; 2])
    }

    /// The checksum that `checksum` becomes. Both as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn applied_to(self, checksum: [u8; 2]) -> [u8; 2] {
        // RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
        (!sum_of(self.halved(), !u16::from_ne_bytes(checksum))).to_ne_bytes()
    }

    /// The same for a UDP checksum, in which zero means "none" (RFC 768): it stays none, and a sum
    /// that comes out as zero is sent as all ones.
    #[inline(always)]
    #[must_use]
    pub const fn applied_to_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        match checksum {
            [0, 0] => [0, 0],
            some => match self.applied_to(some) {
                [0, 0] => [0xff, 0xff],
                changed => changed,
            },
        }
    }

    /// Whether this, which is not nothing, has changed the checksum `before` to `after` as it changes
    /// one that is complete. One that is partial, the sum of the pseudo-header alone and not inverted,
    /// grows by what the other shrinks by; one that is none stays.
    #[inline(always)]
    #[must_use]
    pub const fn has_changed(self, before: [u8; 2], after: [u8; 2]) -> bool {
        let sum = sum_of(u16::from_ne_bytes(after), self.halved());
        let before = u16::from_ne_bytes(before);
        sum == before || (is_zero(sum) && is_zero(before))
    }
}

/// The one's complement sum. The carry is added without a branch, which nobody could foretell.
#[inline(always)]
const fn sum_of(one: u16, other: u16) -> u16 {
    let sum = one as u32 + other as u32;
    (sum + (sum >> 16)) as u16
}

/// One's complement has two zeroes.
#[inline(always)]
const fn is_zero(sum: u16) -> bool {
    sum == 0 || sum == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn computed(words: &[u32]) -> [u8; 2] {
        let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_ne_bytes()
    }

    proptest! {
        #[test]
        fn a_changed_checksum_is_the_one_computed_anew(
            old in proptest::collection::vec(1u32.., 2..12),
            new in proptest::collection::vec(1u32.., 12),
        ) {
            let new = &new[..old.len()];
            let difference = old
                .iter()
                .zip(new)
                .fold(Difference::NONE, |difference, (old, new)| difference.word(*old, *new));
            prop_assert_eq!(difference.applied_to(computed(&old)), computed(new));
        }
    }

    proptest! {
        #[test]
        fn how_a_change_shows_tells_complete_checksums_from_partial_ones(
            old in any::<[u32; 2]>(),
            new in any::<[u32; 2]>(),
            before in any::<[u8; 2]>(),
        ) {
            let difference = Difference::NONE.word(old[0], new[0]).word(old[1], new[1]);
            prop_assume!(!difference.is_nothing());
            let inverted = |checksum: [u8; 2]| checksum.map(|byte| !byte);
            let complete = difference.applied_to(before);
            let partial = inverted(difference.applied_to(inverted(before)));
            prop_assert!(difference.has_changed(before, complete));
            prop_assert!(!difference.has_changed(before, partial));
            prop_assert!(!difference.has_changed(before, before));
        }
    }

    #[test]
    fn addresses_that_change_places_change_no_checksum() {
        let (one, other) = (0x0a00_0001, 0x0a60_0001);
        assert!(Difference::NONE.word(one, other).word(other, one).is_nothing());
        assert!(Difference::NONE.word(0, 0xffff_0000).is_nothing());
        assert!(!Difference::NONE.word(0, 1).is_nothing());
    }

    #[test]
    fn a_udp_packet_without_checksum_stays_without() {
        let difference = Difference::NONE.word(1, 2);
        assert_eq!(difference.applied_to_udp([0, 0]), [0, 0]);
    }

    #[test]
    fn a_udp_checksum_never_becomes_none() {
        // From a sum of 0xfffe to one of 0xffff, whose inverse is zero.
        let difference = Difference::NONE.half(1, 2);
        let before = (!0xfffe_u16).to_ne_bytes();
        assert_eq!(difference.applied_to(before), [0, 0]);
        assert_eq!(difference.applied_to_udp(before), [0xff, 0xff]);
    }
}
