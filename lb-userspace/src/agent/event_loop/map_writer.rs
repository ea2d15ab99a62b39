//! Writes to the maps, and what the last write failed for.

use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::maps::kernel::KernelStore;
use crate::maps::{Contents, MapError, MapStore, Operation};
use crate::observe::Observer;

/// The maps.
pub struct MapWriter {
    store: KernelStore,
    /// What the last write failed for.
    error: Option<String>,
    /// Whether that is still to be logged, together with when it is tried again.
    is_unlogged: bool,
}

impl MapWriter {
    pub const fn new(store: KernelStore) -> Self {
        Self { store, error: None, is_unlogged: false }
    }

    /// Does these operations up to the first that fails; returns how many are done, and why the next one
    /// failed. `observer` counts both.
    pub fn write(
        &mut self,
        operations: &[Operation],
        observer: &Observer,
    ) -> (usize, Result<(), MapError>) {
        let started = Instant::now();
        let (done, result) = self.write_until_one_fails(operations);
        observer.metrics().changes.written(started.elapsed(), done);
        if let Err(error) = &result {
            observer.failed(error);
        }
        (done, result)
    }

    fn write_until_one_fails(&mut self, operations: &[Operation]) -> (usize, Result<(), MapError>) {
        let mut left = operations;
        while !left.is_empty() {
            let (done, result) = self.store.apply_first(left);
            left = left.get(done..).unwrap_or_default();
            if let Err(error) = result {
                self.error = Some(error.to_string());
                self.is_unlogged = true;
                return (operations.len() - left.len(), Err(error));
            }
        }
        self.error = None;
        debug!(operations = operations.len(), "maps written");
        (operations.len(), Ok(()))
    }

    /// Logs what the last write failed for, once.
    pub fn log_retry(&mut self, retry_in: Duration) {
        if let Some(error) = self.error.as_ref().filter(|_| self.is_unlogged) {
            warn!(?retry_in, "{error}");
            self.is_unlogged = false;
        }
    }

    /// What the last write failed for.
    pub const fn error(&self) -> Option<&String> {
        self.error.as_ref()
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// That they cannot be read.
    pub fn read(&self) -> Result<Contents, MapError> {
        self.store.read()
    }
}
