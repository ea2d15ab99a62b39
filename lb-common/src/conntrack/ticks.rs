//! Time, as entries have it.

/// Time since boot in units of 2^30 ns (1.07 s): taken from a nanosecond clock by a shift. It wraps
/// after 146 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Ticks(pub u32);

impl Ticks {
    /// The tick that `nanoseconds` since boot fall into.
    #[inline(always)]
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self((nanoseconds >> 30) as u32)
    }

    /// Ticks from `earlier` to this one; 0 if `earlier` lies in the future, as happens when another
    /// CPU's clock reading is a moment ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u32 {
        let elapsed = self.0.wrapping_sub(earlier.0);
        if elapsed > u32::MAX / 2 { 0 } else { elapsed }
    }

    /// Ticks that last at least `seconds`.
    #[must_use]
    pub const fn of_seconds(seconds: u32) -> u32 {
        ((seconds as u64 * 1_000_000_000).div_ceil(1 << 30)) as u32
    }

    /// The whole seconds that `ticks` last.
    #[must_use]
    pub const fn to_seconds(ticks: u32) -> u32 {
        (((ticks as u64) << 30) / 1_000_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_last_at_least_the_seconds_asked_for() {
        for seconds in [1, 10, 30, 120, 86_400] {
            assert!(Ticks::to_seconds(Ticks::of_seconds(seconds)) >= seconds);
            assert!(Ticks::to_seconds(Ticks::of_seconds(seconds)) <= seconds + 1);
        }
    }

    #[test]
    fn a_clock_reading_from_the_future_counts_as_now() {
        assert_eq!(Ticks(5).since(Ticks(6)), 0);
        assert_eq!(Ticks(6).since(Ticks(5)), 1);
        assert_eq!(Ticks(2).since(Ticks(u32::MAX)), 3);
    }
}
