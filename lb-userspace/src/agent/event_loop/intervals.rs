//! What is done again and again.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How often flows that are over are removed; the shortest of their timeouts is as long.
pub const GC_INTERVAL: Duration = Duration::from_secs(10);

/// How often maps, devices and links are read again without an event, which mends what others changed.
pub const REREAD_INTERVAL: Duration = Duration::from_secs(180);

/// The first is due after `period`; those that could not be kept are not made up for.
pub fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
