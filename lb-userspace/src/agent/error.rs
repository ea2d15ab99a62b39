//! Why the agent could not start, or had to stop.

use crate::datapath::load_error::LoadError;
use crate::datapath::log::LogError;
use crate::host::devices::NetlinkError;
use crate::maps::MapError;
use crate::observe::BindError;
use crate::pins::PinError;
use crate::source::SourceError;

use super::runtime_dir::RuntimeDirError;

/// Why the agent could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A preflight check failed.
    #[error("{about}: {found}; {advice}")]
    Preflight {
        /// What it is about.
        about: String,
        /// What there is.
        found: String,
        /// What to change.
        advice: String,
    },
    /// The runtime directory cannot be used.
    #[error(transparent)]
    RuntimeDir(#[from] RuntimeDirError),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The datapath log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A map could not be opened or read.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Flows of a release with another layout cannot be taken over.
    #[error(
        "{0} entries of flows of the release before hold values that this release has no room for, and were not taken \
         over: go back to that release until these connections have ended (`weir show conntrack`), or end them: weir detach"
    )]
    TooWide(u64),
    /// The pins could not be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel did not list its devices.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The source is lost.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An address cannot be listened on, and must be.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Not every device took the programs.
    #[error("{0}")]
    NotAttached(String),
    /// A flag names a device that is not there.
    #[error("{flag} names {name}, and there is no such device: name one that `ip link` shows")]
    MissingDevice {
        /// The flag.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// No handler for signals could be set.
    #[error("signals cannot be handled: {0}; report this")]
    Signals(std::io::Error),
    /// A task was ended by a panic.
    #[error("a task of weir ended unexpectedly ({0}): restart weir and report this")]
    Task(#[from] tokio::task::JoinError),
}
