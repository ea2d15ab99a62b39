//! Waiting for a condition, with a deadline that names it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How many times as long everything may take: six times in an emulated machine, for which `cargo xtask
/// test --only kernels` builds the tests.
pub const SLOWNESS: u32 = if option_env!("WEIR_EMULATED").is_some() { 6 } else { 1 };

/// Tries `check` until it succeeds, and returns what it gave.
///
/// # Errors
/// If it does not within `timeout`, times [`SLOWNESS`]: its last error, with `what` as its context.
pub fn until<T>(what: &str, timeout: Duration, check: impl FnMut() -> Result<T>) -> Result<T> {
    try_again(what, timeout, |_| PAUSE, check)
}

/// The same for what is timed: the pause between tries is a hundredth of the time that has gone by, or a
/// millisecond.
///
/// # Errors
/// As [`until`].
pub fn until_timed<T>(
    what: &str,
    timeout: Duration,
    check: impl FnMut() -> Result<T>,
) -> Result<T> {
    try_again(what, timeout, |waited| (waited / 100).clamp(PAUSE / 20, PAUSE), check)
}

/// Between tries, so as not to take the time of those that are waited for.
const PAUSE: Duration = Duration::from_millis(20);

fn try_again<T>(
    what: &str,
    timeout: Duration,
    pause: impl Fn(Duration) -> Duration,
    mut check: impl FnMut() -> Result<T>,
) -> Result<T> {
    let timeout = timeout * SLOWNESS;
    let begun = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > timeout => {
                return Err(error).with_context(|| format!("not within {timeout:?}: {what}"));
            }
            Err(_) => thread::sleep(pause(begun.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeds_at_last_is_returned() {
        let mut tries = 0;
        let value = until("third time lucky", Duration::from_secs(10), || {
            tries += 1;
            (tries == 3).then_some(tries).context("not yet")
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn what_never_succeeds_is_named() {
        let error = until("the sky falls", Duration::ZERO, || -> Result<()> {
            anyhow::bail!("it is still up")
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "not within 0ns: the sky falls: it is still up");
    }
}
