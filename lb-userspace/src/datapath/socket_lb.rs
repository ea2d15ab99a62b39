//! The programs for processes' sockets, on a control group: those of the processes below it are
//! balanced. Links are pinned and taken over as those of devices are.

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
use super::loader::{self, ObjectError};
use crate::host::syscall;
use crate::pins::Pins;

/// The programs, by their names in the object and in their pins. Those that tell processes what they
/// have dialled come before those by which they dial, and go after them.
pub const PROGRAMS: [&str; 8] = [
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
];

/// Why processes' sockets are not balanced. Everything else is.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is no hierarchy to attach to.
    #[error(
        "the node's own processes are not balanced: no cgroup v2 hierarchy is mounted here; mount one \
         (mount -t cgroup2 cgroup2 DIR) and name it with --cgroup, or say --socket-balancing off"
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
    /// The programs could not tell whose sockets they are at.
    #[error(
        "the node's own processes are not balanced: the cookie of our network namespace cannot be found \
         out: {0}; start weir again once that is mended, or say --socket-balancing off"
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
    Object(#[from] ObjectError),
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
        /// The kernel's answer.
        cause: String,
    },
}

/// Brings the programs to the control group at `path`: takes over the links that are pinned, and makes
/// those that are missing or of another control group.
///
/// # Errors
/// [`SocketError`]; programs that were attached to this control group still are.
pub fn bring(ebpf: &mut Ebpf, pins: &Pins, path: &Path) -> Result<(), SocketError> {
    let (cgroup, id) =
        open(path).map_err(|error| SocketError::Directory { path: path.into(), error })?;
    // All or none: one that the kernel refuses must not leave the others to do half the work.
    for name in PROGRAMS {
        loader::load_for_sockets(ebpf, name)?;
    }
    for name in PROGRAMS {
        let program = loader::load_for_sockets(ebpf, name)?;
        attach(program, &cgroup, id, &pins.socket_link(name)).map_err(|error| {
            SocketError::Attach { name, path: path.into(), cause: causes(&error) }
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
/// [`SocketError::Pin`], for the first pin that could not be removed.
pub fn remove(pins: &Pins) -> Result<bool, SocketError> {
    let pinned = PROGRAMS.map(|name| pins.socket_link(name));
    let mut removed = false;
    for pin in pinned.iter().rev().filter(|pin| pin.exists()) {
        detach(pin).map_err(|error| SocketError::Pin { path: pin.clone(), error })?;
        removed = true;
    }
    Ok(removed)
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
    if pin.exists() {
        if syscall::cgroup_of_pinned_link(pin)? == id {
            return Ok(syscall::update_pinned_link(pin, program.fd()?.as_fd())?);
        }
        // Of another control group, perhaps one that is gone.
        detach(pin)?;
    }
    // By a link the kernel lets others attach beside us, whatever the mode says.
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    let link: FdLink = program.take_link(link)?.try_into()?;
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
        let said = SocketError::Directory { path, error }.to_string();
        assert!(said.contains("/proc: not on a cgroup v2 file system; name"), "{said}");
    }
}
