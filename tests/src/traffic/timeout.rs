//! How long clients wait.

use std::time::Duration;

use crate::wait::SLOWNESS;

/// How long a response may take before it counts as lost. Generous: it is reached only by failures.
pub const TIMEOUT: Duration = Duration::from_secs(5 * SLOWNESS as u64);
