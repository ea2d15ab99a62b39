//! Time, as the headers of a table have it.

use crate::conntrack::Ticks;

/// A time in units of 2^24 ns since boot, modulo 2^26.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(pub u32);

impl Stamp {
    /// How many of its units a tick has, as a power of two.
    const PER_TICK: u32 = 6;

    /// How many bits it has.
    pub const BITS: u32 = 26;
    /// How far ahead of one CPU's clock reading another's may be, in units.
    const AHEAD: u32 = 64;
    /// Its bits.
    pub const MASK: u32 = (1 << Self::BITS) - 1;

    /// The stamp of `nanoseconds` since boot.
    #[inline(always)]
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self((nanoseconds >> 24) as u32 & Self::MASK)
    }

    /// The first stamp of a tick.
    #[inline(always)]
    #[must_use]
    pub const fn of_ticks(ticks: Ticks) -> Self {
        Self((ticks.0 << Self::PER_TICK) & Self::MASK)
    }

    /// Units from this stamp to `now`; none if it is a little ahead of that.
    #[inline(always)]
    #[must_use]
    pub const fn age(self, now: Self) -> u32 {
        let age = now.0.wrapping_add(Self::AHEAD).wrapping_sub(self.0) & Self::MASK;
        age.saturating_sub(Self::AHEAD)
    }

    /// Units of at least `seconds`.
    #[must_use]
    pub const fn of_seconds(seconds: u32) -> u32 {
        (seconds as u64 * 1_000_000_000).div_ceil(1 << 24) as u32
    }

    /// The tick that this stamp is in, where `now` is the present one.
    #[inline(always)]
    #[must_use]
    pub const fn tick(self, now: Ticks) -> Ticks {
        let mask = (1 << (Self::BITS - Self::PER_TICK)) - 1;
        let ago = now.0.wrapping_sub(self.0 >> Self::PER_TICK) & mask;
        // One CPU's clock reading may be ahead of another's.
        let ahead = if ago > mask / 2 { mask + 1 } else { 0 };
        Ticks(now.0.wrapping_sub(ago).wrapping_add(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_cpu_has_just_seen_is_young() {
        let now = Stamp(5);
        let ages = [Stamp(6), Stamp(5), Stamp(4), Stamp(Stamp::MASK)].map(|seen| seen.age(now));
        assert_eq!(ages, [0, 0, 1, 6]);
        assert_eq!(Stamp::of_seconds(20), 1193);
    }

    #[test]
    fn a_stamp_leads_back_to_its_tick() {
        for tick in [1, 2, (1 << 21) - 1, 1 << 21, 1 << 22, u32::MAX - 9] {
            let stamp = Stamp::of_ticks(Ticks(tick));
            for later in [0, 1, 100_000, 500_000] {
                let now = Ticks(tick.wrapping_add(later));
                assert_eq!(stamp.tick(now), Ticks(tick));
            }
            assert_eq!(stamp.tick(Ticks(tick - 1)), Ticks(tick), "another CPU's clock");
        }
        let nanoseconds = 0x1234_5678_9abc;
        let tick = Ticks::from_nanoseconds(nanoseconds);
        assert_eq!(Stamp::from_nanoseconds(nanoseconds).tick(tick), tick);
    }
}
