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
pub fn until<T>(what: &str, timeout: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    /// Between tries, so as not to take the time of those that are waited for.
    const PAUSE: Duration = Duration::from_millis(20);
    let timeout = timeout * SLOWNESS;
    let deadline = Instant::now() + timeout;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("not within {timeout:?}: {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
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
