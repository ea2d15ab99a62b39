//! When credentials may be read again: a plugin that fails or hangs is not run by every request.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::error::AccessError;
use crate::source::kubernetes::backoff::{Backoff, Timeouts};

/// How the last attempts to read credentials anew ended.
#[derive(Debug)]
pub(super) struct Renewal {
    backoff: Backoff,
    /// Why the last one failed, and until when that counts for all.
    failure: Option<(Instant, Arc<AccessError>)>,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { backoff: Backoff::new(Timeouts::default()), failure: None }
    }
}

impl Renewal {
    /// Refuses with the last failure while that is young.
    pub(super) fn may_begin(&self) -> Result<(), Arc<AccessError>> {
        match &self.failure {
            Some((until, error)) if Instant::now() < *until => Err(Arc::clone(error)),
            _ => Ok(()),
        }
    }

    /// Remembers a failure, and warns of the first.
    pub(super) fn failed(&mut self, error: AccessError) -> Arc<AccessError> {
        let error = Arc::new(error);
        let wait = self.backoff.after_failure(None);
        let is_first = self.failure.replace((Instant::now() + wait, Arc::clone(&error))).is_none();
        if is_first {
            warn!(
                "credentials cannot be read anew: {error}. The old ones are used while they are \
                 accepted, and Weir tries again by itself"
            );
        }
        error
    }

    /// Forgets failures.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        if self.failure.take().is_some() {
            info!("credentials were read anew");
        }
    }
}
