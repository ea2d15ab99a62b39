//! The rate limit of ICMP messages: what anybody can ask for must not be multiplied.

use core::ptr;

use super::context::Context;
use super::maps::ICMP_LIMIT;
use super::values::IcmpCount;

/// ICMP messages that a CPU may send in one period: some 1,000 a second, as the kernel limits its own
/// (`net.ipv4.icmp_msgs_per_sec`, 1,000 by default until 6.11). Tests that count set both before they
/// load the programs.
#[unsafe(no_mangle)]
static ICMP_PER_PERIOD: u32 = 1074;

/// The length of a period in nanoseconds, as a shift: 1.07 s.
#[unsafe(no_mangle)]
static ICMP_PERIOD: u32 = 30;

/// Whether one more message may be sent; it is then counted.
#[inline(always)]
pub fn allow(context: &Context) -> bool {
    let Some(count) = ICMP_LIMIT.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
    // CPU do not interrupt each other. No other reference to it exists.
    let count = unsafe { &mut *count };
    // SAFETY: plain reads of constants that nothing writes once the program is loaded.
    let (shift, limit) = unsafe {
        (ptr::read_volatile(&raw const ICMP_PERIOD), ptr::read_volatile(&raw const ICMP_PER_PERIOD))
    };
    let period = (context.nanoseconds() >> (shift & 63)) as u32;
    if count.period != period {
        *count = IcmpCount { period, sent: 0 };
    }
    if count.sent >= limit {
        return false;
    }
    count.sent += 1;
    true
}
