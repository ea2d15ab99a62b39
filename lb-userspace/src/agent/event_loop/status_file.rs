//! Publishes the agent's status to other processes.

use tracing::warn;

use crate::agent::runtime_dir::{RuntimeDir, RuntimeDirError};
use crate::agent::status::Status;

/// The status file, and what it says.
pub struct StatusFile {
    runtime_dir: RuntimeDir,
    published: Status,
}

impl StatusFile {
    /// Publishes the first status.
    ///
    /// # Errors
    /// [`RuntimeDirError::File`]
    pub fn create(runtime_dir: RuntimeDir, first: Status) -> Result<Self, RuntimeDirError> {
        runtime_dir.write_status(&first)?;
        Ok(Self { runtime_dir, published: first })
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.published.node
    }

    /// Publishes the status that `update` makes of the last one, if it is another. That it cannot be
    /// written is no reason to stop.
    pub fn publish(&mut self, update: impl FnOnce(Status) -> Status) {
        let status = update(self.published.clone());
        if status != self.published {
            if let Err(error) = self.runtime_dir.write_status(&status) {
                warn!("{error}");
            }
            self.published = status;
        }
    }
}
