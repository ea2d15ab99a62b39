//! Why credentials cannot be had, with what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::plugin::PluginError;

/// How long credentials may take to be read: files, and once more a program that the kubeconfig names.
pub(super) const READING: Duration = Duration::from_secs(60);

/// Why the API server cannot be reached at all.
#[derive(thiserror::Error, Debug)]
pub enum AccessError {
    /// The kubeconfig is not there, or is none.
    #[error(
        "the kubeconfig {} cannot be used ({cause}): give --kubeconfig a file that kubectl accepts",
        path.display()
    )]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: kube::config::KubeconfigError,
    },
    /// No address is known.
    #[error(
        "no address of the API server is known: give one with --master https://HOST:PORT, or run in \
         a pod, where KUBERNETES_SERVICE_HOST names it"
    )]
    NoServer,
    /// The address is none.
    #[error("{0} is no address of an API server: write --master https://HOST:PORT")]
    Server(String),
    /// Certificates or tokens that cannot be used.
    #[error(
        "the certificates or the token for the API server cannot be used ({0}): check the files that \
         the kubeconfig names, or those of the service account"
    )]
    Client(kube::Error),
    /// They do not come.
    #[error(
        "the files with the credentials for the API server cannot be read within {} s: check the file system \
         that they are on",
        READING.as_secs()
    )]
    Late,
    /// The command that is to write them does not.
    #[error(
        "the credential plugin `{command}`, which the kubeconfig names under `exec`, {cause}: run it by hand, \
         and see why"
    )]
    Plugin {
        /// Its name.
        command: String,
        /// Why.
        cause: PluginError,
    },
    /// The task that reads them was ended by a panic.
    #[error("the reading of credentials ended unexpectedly ({0}): restart weir and report this")]
    Reading(tokio::task::JoinError),
}
