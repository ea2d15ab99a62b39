//! Attaches the socket programs to a control group: sockets of the processes below it are balanced. Links are pinned and taken over as those of devices are.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::pin;
use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::error_chain::causes;
use super::load_error::LoadError;
use super::loader;
use super::programs::{SOCKET_PROGRAMS, UNDOING};
use crate::host::syscall;
use crate::pins::Pins;

/// Why processes' sockets are not balanced. Everything else is.
#[derive(Debug, thiserror::Error)]
pub enum SocketLbError {
    /// There is no hierarchy to attach to.
    #[error(
        "the node's own processes are not balanced: no cgroup v2 hierarchy is mounted here; mount one \
         (mount -t cgroup2 cgroup2 DIR) and name it with --cgroup, or set --socket-balancing off"
    )]
    NoHierarchy,
    /// The directory cannot be used.
    #[error(
        "the node's own processes are not balanced: {path}: {error}; name a directory of a cgroup v2 \
         hierarchy with --cgroup"
    )]
    Directory {
        /// Which one.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The programs could not know whose sockets they see.
    #[error(
        "the node's own processes are not balanced: the cookie of our network namespace cannot be read: \
         {0}; start weir again once that is mended, or set --socket-balancing off"
    )]
    Namespace(String),
    /// A link that is not wanted could not be removed.
    #[error("{path}: {error}; run weir as root, or remove it with `weir detach`")]
    Pin {
        /// Its pin.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A program was refused.
    #[error("the node's own processes are not balanced: {0}")]
    Object(#[from] LoadError),
    /// A program was not attached.
    #[error(
        "the node's own processes are not balanced: {name} was not attached to {path}: {cause}; \
         `weir check` says what may be missing"
    )]
    Attach {
        /// The program.
        name: &'static str,
        /// The control group.
        path: PathBuf,
        /// What the kernel says.
        cause: String,
    },
}

/// Attaches the programs to the control group at `path`: takes over the links that are pinned, and makes
/// those that are missing or of another control group.
///
/// # Errors
/// [`SocketLbError`]; programs that were attached to this control group still are.
pub fn reconcile(ebpf: &mut Ebpf, pins: &Pins, path: &Path) -> Result<(), SocketLbError> {
    let (cgroup, id) =
        open(path).map_err(|error| SocketLbError::Directory { path: path.into(), error })?;
    // All or none: one that the kernel refuses must not leave the others to do half the work.
    for name in SOCKET_PROGRAMS {
        loader::load_socket_program(ebpf, name)?;
    }
    for name in SOCKET_PROGRAMS {
        let program = loader::load_socket_program(ebpf, name)?;
        attach(program, &cgroup, id, &pins.socket_link(name)).map_err(|error| {
            SocketLbError::Attach { name, path: path.into(), cause: causes(&error) }
        })?;
    }
    Ok(())
}

/// The control group at `path`, and its id.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let cgroup = File::open(path)?;
    // The kernel would say no more than that the descriptor is bad.
    if fstatfs(&cgroup)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other("not on a cgroup v2 file system"));
    }
    // A control group's id is its inode (fs/kernfs/dir.c), on the 64-bit machines that BPF is for.
    let id = cgroup.metadata()?.ino();
    Ok((cgroup, id))
}

/// Detaches the programs, wherever they are; returns whether any was attached.
///
/// # Errors
/// [`SocketLbError::Pin`], for the first pin that could not be removed.
pub fn remove(pins: &Pins) -> Result<bool, SocketLbError> {
    let pinned = SOCKET_PROGRAMS.map(|name| pins.socket_link(name));
    let mut removed = false;
    for pin in pinned.iter().rev().filter(|pin| pin.exists()) {
        detach(pin).map_err(|error| SocketLbError::Pin { path: pin.clone(), error })?;
        removed = true;
    }
    Ok(removed)
}

/// Detaches those of a release before that translate. Those that undo a translation stay for the sockets that they know,
/// as long as the node runs: what is stored with a socket cannot be read.
///
/// # Errors
/// [`SocketLbError::Pin`], for the first pin that could not be removed.
pub fn leave_to_next(pins: &Pins) -> Result<(), SocketLbError> {
    let translating = SOCKET_PROGRAMS.iter().filter(|name| !UNDOING.contains(name));
    for pin in translating.map(|name| pins.socket_link(name)).filter(|pin| pin.exists()) {
        detach(&pin).map_err(|error| SocketLbError::Pin { path: pin.clone(), error })?;
    }
    Ok(())
}

/// Why a program was not attached.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Pin(#[from] pin::PinError),
    #[error(transparent)]
    System(#[from] io::Error),
}

fn attach(
    program: &mut CgroupSockAddr,
    cgroup: &File,
    id: u64,
    pin: &Path,
) -> Result<(), AttachError> {
    let is_pinned = pin.exists();
    if is_pinned && syscall::cgroup_of_pinned_link(pin)? == id {
        return Ok(syscall::update_pinned_link(pin, program.fd()?.as_fd())?);
    }
    // By a link the kernel lets others attach beside us, whatever the mode says.
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    let link: FdLink = program.take_link(link)?.try_into()?;
    if is_pinned {
        // Of another control group, perhaps one that is gone. Processes below both were served by it until now.
        detach(pin)?;
    }
    // The pin holds the link from here on.
    drop(link.pin(pin)?);
    Ok(())
}

fn detach(pin: &Path) -> io::Result<()> {
    match syscall::detach_pinned_link(pin) {
        // Its control group is gone, and with it what was attached.
        Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_control_group_is_refused_with_what_to_name_instead() {
        let path = PathBuf::from("/proc");
        let error = open(&path).unwrap_err();
        let text = SocketLbError::Directory { path, error }.to_string();
        assert!(text.contains("/proc: not on a cgroup v2 file system; name"), "{text}");
    }
}
