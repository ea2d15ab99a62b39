//! The rate limits: what anybody can ask for must not be multiplied. Each is counted apart, so that a flood
//! of one thing does not use up what another needs.

use core::ptr;

use lb_ebpf::world::RateLimit;

use super::context::Context;
use super::maps::RATE_LIMIT;
use super::values::RateCount;

/// How often a CPU may do one thing in one period: some 1,000 times a second, as the kernel limits its own
/// ICMP messages (`net.ipv4.icmp_msgs_per_sec`, 1,000 by default until 6.11). Tests that count set both
/// before they load the programs.
#[unsafe(no_mangle)]
static RATE_PER_PERIOD: u32 = 1074;

/// The length of a period in nanoseconds, as a shift: 1.07 s.
#[unsafe(no_mangle)]
static RATE_PERIOD: u32 = 30;

/// Whether the limit allows one time more; it is then counted.
#[inline(always)]
pub fn allow(context: &Context, limit: RateLimit) -> bool {
    let Some(count) = RATE_LIMIT.get_ptr_mut(limit as u32) else { return false };
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
    // CPU do not interrupt each other. No other reference to it exists.
    let count = unsafe { &mut *count };
    // SAFETY: plain reads of constants that nothing writes once the program is loaded.
    let (shift, most) = unsafe {
        (ptr::read_volatile(&raw const RATE_PERIOD), ptr::read_volatile(&raw const RATE_PER_PERIOD))
    };
    let period = (context.nanoseconds() >> (shift & 63)) as u32;
    if count.period != period {
        *count = RateCount { period, times: 0 };
    }
    if count.times >= most {
        return false;
    }
    count.times += 1;
    true
}
