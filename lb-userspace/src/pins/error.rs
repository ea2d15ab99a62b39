//! Why pins cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use lb_common::layout;

use super::layout::LayoutError;
use super::shape::Shape;

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The directory is not on a BPF file system.
    #[error(
        "{0} is not on a BPF file system, where programs and maps outlive the agent; mount one \
         (mount -t bpf bpf /sys/fs/bpf) or name one with --bpffs"
    )]
    NotBpffs(PathBuf),
    /// Another process works on what is pinned.
    #[error(
        "an agent works on what is pinned at {0}, perhaps one in a container: stop it first (delete its pod, or end \
         `weir run`)"
    )]
    Locked(PathBuf),
    /// A map with another layout or size is pinned.
    #[error(
        "the map {name} at {path} is {there}, but this weir, as configured, wants {wanted}; {next}"
    )]
    OtherMap {
        /// The map.
        name: &'static str,
        /// Its pin.
        path: PathBuf,
        /// What is pinned.
        there: Shape,
        /// What is wanted.
        wanted: Shape,
        /// What to do.
        next: &'static str,
    },
    /// Another version's pins are there.
    #[error(
        "{0} holds what another release of weir works on, whose maps have another layout than this one's (v{version}): \
         use that release's `weir`; `weir run` of this one would take over, with all connections",
        version = layout::VERSION
    )]
    OtherVersion(PathBuf),
    /// Pins without a word of what they look like.
    #[error(
        "{0} was made by a build of weir that does not say what its maps look like, so its connections cannot be taken \
         over; run `weir detach`, which ends translated connections, and then `weir run` again"
    )]
    UnknownLayout(PathBuf),
    /// What the maps look like cannot be read.
    #[error(
        "{0}: {1}, so what is pinned there cannot be taken over; run `weir detach`, which ends translated connections, \
         and then `weir run` again"
    )]
    Layout(PathBuf, LayoutError),
    /// No agent has pinned anything there.
    #[error(
        "nothing of weir's is pinned at {0}: start `weir run` first, or name the BPF file system \
         that it uses with --bpffs"
    )]
    Nothing(PathBuf),
    /// A map that is pinned could not be read.
    #[error("the map pinned at {path} could not be opened: {error}; run `weir check`")]
    Map {
        /// Its pin.
        path: PathBuf,
        /// The cause.
        error: aya::maps::MapError,
    },
    /// A file or directory could not be made, read or removed.
    #[error("{path}: {error}; weir needs to read and write there: run it as root")]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

impl PinError {
    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.into(), error }
    }
}
