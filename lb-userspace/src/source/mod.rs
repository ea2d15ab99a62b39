//! Where the cluster's objects come from. A source tells of Services, EndpointSlices, Nodes and
//! ServiceCIDRs as [`Change`]s of the model, and of what it could not read or honour as
//! [`SourceWarning`]s. Kubernetes' own types end here: nothing outside this folder names them.

mod convert;
mod kubernetes;
mod manifests;
mod warning;

use tokio::sync::mpsc::Sender;

use crate::model::Change;

pub use kubernetes::{Access, AccessError, EventCounts, Kubernetes, Patience, Reason, Reporter};
pub use manifests::Manifests;
pub use warning::{FilePosition, SourceWarning};

/// What a source tells.
#[derive(Clone, PartialEq, Debug)]
pub enum SourceEvent {
    /// Something happened in the cluster; in this order.
    Changes(Vec<Change>),
    /// All that cannot be read or honoured now: this list takes the place of the one before.
    Warnings(Vec<SourceWarning>),
}

/// A place that objects come from.
#[derive(Debug)]
pub enum Source {
    /// Files.
    Manifests(Manifests),
    /// An API server.
    Kubernetes(Kubernetes),
}

impl Source {
    /// Where warnings can be written back to, if anywhere.
    #[must_use]
    pub fn reporter(&self) -> Option<Reporter> {
        match self {
            Self::Manifests(_) => None,
            Self::Kubernetes(kubernetes) => Some(kubernetes.reporter()),
        }
    }

    /// Tells everything there is, then [`Change::Synced`], then every change, until nobody listens.
    ///
    /// # Errors
    ///
    /// The source is lost and nothing more will come.
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

/// Why a source cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum SourceError {
    /// A path of `--manifests` that leads nowhere.
    #[error(
        "{} cannot be opened ({cause}): give --manifests a file or directory that is there and \
         may be read",
        path.display()
    )]
    Path {
        /// The path as given.
        path: std::path::PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The API server cannot be reached at all.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The task that reads files was ended by a panic.
    #[error("the reading of manifests ended unexpectedly ({0}): restart weir and report this")]
    Reading(#[from] tokio::task::JoinError),
}
