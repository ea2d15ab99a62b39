//! How long a request to the API server may take, and how long to wait after a failure.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The times that a watch keeps. The defaults suit a cluster; tests make them short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// A response begins within this time, and that of a list does not pause for longer.
    pub response: Duration,
    /// A watch is requested to end after this time, in whole seconds, so that watches spread over
    /// servers again.
    pub watch: Duration,
    /// A watch without a line for this time is taken for dead: API servers send a bookmark about
    /// once a minute.
    pub idle: Duration,
    /// The wait after the first failure; twice as long after each further one.
    pub first_backoff: Duration,
    /// The longest wait.
    pub longest_backoff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(30),
            watch: Duration::from_secs(290),
            idle: Duration::from_secs(120),
            first_backoff: Duration::from_millis(400),
            longest_backoff: Duration::from_secs(30),
        }
    }
}

/// Exponential back-off with jitter: the nodes of a cluster lose their server at the same moment,
/// and must not all come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    timeouts: Timeouts,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, failures: 0 }
    }

    /// A success: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; no less than the server requests, if it does. A
    /// server that requests more than the longest wait gets it, up to ten times as much.
    pub(super) fn after_failure(&mut self, requested: Option<Duration>) -> Duration {
        let factor = 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let longest = self.timeouts.longest_backoff;
        let wait = self.timeouts.first_backoff.saturating_mul(factor).min(longest);
        let requested = requested.unwrap_or_default().min(longest.saturating_mul(10));
        requested + wait.mul_f64(0.5 + fraction() / 2.0)
    }
}

/// A random number from 0 to 1; good enough to spread load, and for nothing else.
fn fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_alike() {
        let timeouts = Timeouts::default();
        let mut backoff = Backoff::new(timeouts);
        for failure in 0..40 {
            let whole = timeouts.first_backoff.saturating_mul(2u32.saturating_pow(failure));
            let whole = whole.min(timeouts.longest_backoff);
            let wait = backoff.after_failure(None);
            assert!(wait >= whole / 2 && wait <= whole, "{failure}: {wait:?}");
        }
        assert_ne!(backoff.after_failure(None), backoff.after_failure(None));
        backoff.reset();
        assert!(backoff.after_failure(None) <= timeouts.first_backoff);
    }

    #[test]
    fn a_wait_is_no_shorter_than_the_server_requests_within_reason() {
        let mut backoff = Backoff::new(Timeouts::default());
        assert!(backoff.after_failure(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        let day = Duration::from_secs(86_400);
        assert!(backoff.after_failure(Some(day)) <= Duration::from_secs(301));
    }
}
