//! Why a source cannot be used.

use super::kubernetes::AccessError;

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
