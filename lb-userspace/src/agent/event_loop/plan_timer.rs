//! When the next plan is made.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A plan waits this many times as long as the one before it took, so that a storm of changes takes
/// no more than a fourth of a CPU, ...
const PAUSE: u32 = 3;

/// ... but at least this long: slots that a plan frees may be written by the next one, when no packet is about to read them
/// any more, ...
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// ... and no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The timer.
pub struct PlanTimer {
    /// When the next plan is due.
    due: Option<Instant>,
    /// No plan is due before this.
    not_before: Instant,
    /// When the pause after the last plan of everything is over. One plan within it need not wait: most are
    /// of some Services, and short.
    whole_not_before: Instant,
}

impl PlanTimer {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { due: None, not_before: now, whole_not_before: now }
    }

    /// The next plan is due after this time, or when the pause after the last is over.
    pub fn wake_in(&mut self, time: Duration) {
        self.due = Some((Instant::now() + time).max(self.not_before));
    }

    /// A plan took this long, of everything or not: the next one waits, also one that is due already.
    pub fn throttle(&mut self, took: Duration, is_whole: bool) {
        self.throttle_at(Instant::now(), took, is_whole);
    }

    fn throttle_at(&mut self, now: Instant, took: Duration, is_whole: bool) {
        let pause =
            |times: u32| (took * times).clamp(SHORTEST_PAUSE, times / PAUSE * LONGEST_PAUSE);
        self.not_before = now
            + match (is_whole, now < self.whole_not_before) {
                (true, false) => SHORTEST_PAUSE,
                // The second of everything pays for both.
                (true, true) => pause(2 * PAUSE),
                (false, _) => pause(PAUSE),
            };
        if is_whole {
            self.whole_not_before = self.not_before.max(now + pause(PAUSE));
        }
        self.due = self.due.map(|due| due.max(self.not_before));
    }

    /// Waits until a plan is due; for ever if none is. The future may be dropped.
    pub async fn due(&mut self) {
        match self.due {
            Some(time) => sleep_until(time).await,
            None => pending().await,
        }
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_millis(300);

    fn paused(timer: &PlanTimer, now: Instant) -> Duration {
        timer.not_before - now
    }

    #[test]
    fn a_change_right_after_a_plan_of_everything_waits_no_longer_than_any() {
        let (mut timer, now) = (PlanTimer::new(), Instant::now());
        timer.throttle_at(now, LONG, true);
        assert_eq!(paused(&timer, now), SHORTEST_PAUSE);
        timer.throttle_at(now, SHORT, false);
        assert_eq!(paused(&timer, now), PAUSE * SHORT);
        timer.throttle_at(now, Duration::from_micros(1), false);
        assert_eq!(paused(&timer, now), SHORTEST_PAUSE);
    }

    #[test]
    fn plans_of_everything_take_a_fourth_of_a_processor() {
        let (mut timer, mut now) = (PlanTimer::new(), Instant::now());
        let (started, mut worked) = (now, Duration::ZERO);
        for _ in 0..100 {
            now = now.max(timer.not_before) + LONG;
            worked += LONG;
            timer.throttle_at(now, LONG, true);
        }
        let share = worked.as_secs_f64() / (timer.not_before - started).as_secs_f64();
        assert!((0.2..0.26).contains(&share), "{share}");
    }

    #[test]
    fn a_pause_has_an_end() {
        let (mut timer, now) = (PlanTimer::new(), Instant::now());
        timer.throttle_at(now, Duration::from_secs(60), false);
        assert_eq!(paused(&timer, now), LONGEST_PAUSE);
        timer.throttle_at(now, Duration::from_secs(60), true);
        timer.throttle_at(now, Duration::from_secs(60), true);
        assert_eq!(paused(&timer, now), 2 * LONGEST_PAUSE);
    }
}
