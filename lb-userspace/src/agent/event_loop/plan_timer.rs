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
}

impl PlanTimer {
    pub fn new() -> Self {
        Self { due: None, not_before: Instant::now() }
    }

    /// The next plan is due after this time, or when the pause after the last is over.
    pub fn wake_in(&mut self, time: Duration) {
        self.due = Some((Instant::now() + time).max(self.not_before));
    }

    /// A plan took this long: the next one waits, also one that is due already.
    pub fn throttle(&mut self, took: Duration) {
        self.not_before = Instant::now() + (took * PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
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
