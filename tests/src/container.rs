//! A process as the DaemonSet's container runs it: root by name, with three capabilities and no means
//! of getting more, nothing to write to but a BPF file system and the agent's runtime directory, and a control
//! group of its own that is the root of those it sees, but where the node's are mounted for it.
//!
//! What a container runtime adds and this does not: a root of its own, and a filter of system calls.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::agent;
use crate::lab::{Lab, Node};

/// The capabilities that the container adds after it has dropped all, as `deploy/` names them, with
/// their bits (`include/uapi/linux/capability.h`).
pub const CAPABILITIES: [(&str, u32); 3] = [("BPF", 39), ("NET_ADMIN", 12), ("PERFMON", 38)];

/// [`CAPABILITIES`] as a set, a bit each.
pub const CAPABILITY_SET: u64 =
    1 << CAPABILITIES[0].1 | 1 << CAPABILITIES[1].1 | 1 << CAPABILITIES[2].1;

/// Where the agent keeps its lock and its status.
const RUNTIME_DIR: &str = "/run/weir";

/// The agent's image, as far as it matters: the binary alone.
#[derive(Debug)]
pub struct Image {
    weir: PathBuf,
    /// Containers' control group, below that of the lab's processes; `None` without cgroup v2.
    group: Option<PathBuf>,
}

impl Image {
    /// Puts the binary where every user may read it: this process's own folders may be closed to a
    /// root without its powers.
    ///
    /// # Errors
    /// If there is no binary, or it cannot be copied.
    pub fn build(lab: &Lab) -> Result<Self> {
        let weir = lab.folder().join("weir");
        // By a process of its own: a file that this one writes to may not be started as long as a
        // child that another test starts meanwhile holds the descriptor too (`ETXTBSY`).
        let status = Command::new("cp").arg(agent::binary()?).arg(&weir).status()?;
        ensure!(status.success(), "cannot copy the binary to {}", weir.display());
        let name = lab.folder().file_name().context("a lab without a name")?.to_owned();
        let group = lab.node1.cgroup.as_ref().map(|all| all.join(name));
        group.iter().try_for_each(std::fs::create_dir_all)?;
        Ok(Self { weir, group })
    }

    /// A command that becomes `weir` in a container on `node`.
    ///
    /// # Errors
    /// If the node is gone.
    pub fn command(&self, node: &Node) -> Result<Command> {
        self.command_with(CAPABILITY_SET, node)
    }

    /// The same with other capabilities, a bit each.
    ///
    /// # Errors
    /// If the node is gone.
    pub fn command_with(&self, capabilities: u64, node: &Node) -> Result<Command> {
        std::fs::create_dir_all(RUNTIME_DIR)?;
        let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
        let mut command = node.namespace.command(&self.weir)?;
        let bpffs = node.bpffs.clone();
        let members = self.group.as_ref().map(|group| group.join("cgroup.procs"));
        // SAFETY: between fork and exec only system calls are made; nothing is allocated, as paths
        // of less than a kilobyte are copied to the stack.
        unsafe {
            command.pre_exec(move || {
                members.as_deref().map_or(Ok(()), make_root_of_control_groups)?;
                make_all_read_only_but(&[&bpffs, Path::new(RUNTIME_DIR)])?;
                give_up_all_but(capabilities, last)?;
                nix::sys::prctl::set_no_new_privs()?;
                Ok(())
            });
        }
        Ok(command)
    }

    /// Runs a `weir` command in a container on `node` to its end and returns what it printed.
    ///
    /// # Errors
    /// If it fails; its standard error is part of the error.
    pub fn weir(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(node)?;
        let output = command.args(arguments).arg("--bpffs").arg(&node.bpffs).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "`weir {arguments:?}` failed: {complaint}");
        String::from_utf8(output.stdout).context("weir prints something other than text")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// Moves the calling process to the control group whose list of processes is the file `members`, and
/// gives it a cgroup namespace, which begins there.
fn make_root_of_control_groups(members: &Path) -> io::Result<()> {
    std::fs::write(members, "0")?;
    Ok(unshare(CloneFlags::CLONE_NEWCGROUP)?)
}

/// Gives the calling process mounts of its own, and makes every one but the folders `writable`
/// read-only.
fn make_all_read_only_but(writable: &[&Path]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for folder in writable {
        mount(Some(*folder), *folder, none, MsFlags::MS_BIND, none)?;
    }
    set_attributes(c"/", libc::MOUNT_ATTR_RDONLY, 0)?;
    for folder in writable {
        nix::NixPath::with_nix_path(*folder, |folder| {
            set_attributes(folder, 0, libc::MOUNT_ATTR_RDONLY)
        })??;
    }
    Ok(())
}

/// Sets and clears attributes of the mount at `folder` and of all below it, see mount_setattr(2).
fn set_attributes(folder: &std::ffi::CStr, set: u64, clear: u64) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the kernel reads a path that ends in a zero and a structure of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            folder.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the calling process and whatever it becomes with `kept` alone, see capabilities(7). `last`
/// is the last capability that the kernel knows.
fn give_up_all_but(kept: u64, last: u32) -> io::Result<()> {
    for capability in 0..=last {
        if kept >> capability & 1 == 0 {
            // SAFETY: takes numbers alone.
            let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            nix::errno::Errno::result(result)?;
        }
    }
    let [low, high] = [kept as u32, (kept >> 32) as u32];
    // `_LINUX_CAPABILITY_VERSION_3` and the calling process; then effective, permitted and
    // inheritable capabilities, first the lower 32 of each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: the kernel reads eight and, for this version, twenty-four bytes.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
