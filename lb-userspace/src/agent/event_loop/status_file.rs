//! Publishes the agent's status to other processes.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::agent::runtime_dir::{RuntimeDir, RuntimeDirError};
use crate::agent::status::Status;

/// The status is made this often at most: it names all devices and warnings, and changes of the cluster may come by the
/// hundred a second.
const INTERVAL: Duration = Duration::from_millis(100);

/// The status file, and what it says.
pub struct StatusFile {
    runtime_dir: RuntimeDir,
    published: Status,
    /// Whether something may have changed since the status was made.
    is_behind: bool,
    /// When it may be made again.
    not_before: Instant,
}

impl StatusFile {
    /// Publishes the first status.
    ///
    /// # Errors
    /// [`RuntimeDirError::File`]
    pub fn create(runtime_dir: RuntimeDir, first: Status) -> Result<Self, RuntimeDirError> {
        runtime_dir.write_status(&first)?;
        let not_before = Instant::now();
        Ok(Self { runtime_dir, published: first, is_behind: false, not_before })
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.published.node
    }

    /// Something may have changed: the status is due, at once or when it may be made again.
    pub const fn update_soon(&mut self) {
        self.is_behind = true;
    }

    /// Waits until the status is due. The future may be dropped.
    pub async fn due(&mut self) {
        if !self.is_behind {
            pending::<()>().await;
        }
        sleep_until(self.not_before).await;
        self.is_behind = false;
        self.not_before = Instant::now() + INTERVAL;
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
