//! One source or the other.

use tokio::sync::mpsc::Sender;

use super::error::SourceError;
use super::event::SourceEvent;
use super::kubernetes::{Kubernetes, Reporter};
use super::manifests::Manifests;

/// Where objects come from.
#[derive(Debug)]
pub enum Source {
    /// Files.
    Manifests(Manifests),
    /// An API server.
    Kubernetes(Kubernetes),
}

impl Source {
    /// Writes warnings back to the cluster, where that is possible.
    #[must_use]
    pub fn reporter(&self) -> Option<Reporter> {
        match self {
            Self::Manifests(_) => None,
            Self::Kubernetes(kubernetes) => Some(kubernetes.reporter()),
        }
    }

    /// Sends everything there is, then `Change::Synced`, then every change, until the receiver is dropped.
    ///
    /// # Errors
    ///
    /// The source is lost and sends no more.
    pub async fn run(self, events: Sender<SourceEvent>) -> Result<(), SourceError> {
        match self {
            Self::Manifests(manifests) => manifests.run(events).await,
            Self::Kubernetes(kubernetes) => {
                kubernetes.run(events).await;
                Ok(())
            }
        }
    }
}
