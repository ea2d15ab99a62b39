//! Links that are pinned: detached at once, given another program, queried for their control group.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bpf::{Command, address_mut, bpf, count, number};

/// The member for `BPF_OBJ_*`.
#[derive(Default)]
#[repr(C)]
struct ObjectAttribute {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The member for `BPF_LINK_UPDATE`.
#[derive(Default)]
#[repr(C)]
struct LinkUpdateAttribute {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The member for `BPF_OBJ_GET_INFO_BY_FD`.
#[derive(Default)]
#[repr(C)]
struct InfoAttribute {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link on a control group.
#[derive(Default)]
#[repr(C)]
struct CgroupLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    cgroup_id: u64,
    attach_type: u32,
    more_padding: u32,
}

/// The member for `BPF_LINK_DETACH`.
#[derive(Default)]
#[repr(C)]
struct LinkDetachAttribute {
    link_fd: u32,
}

/// Detaches the link pinned at `path` at once; removing a pin alone leaves it attached until a
/// kernel thread gets to it.
///
/// # Errors
/// Those of `BPF_OBJ_GET` and `BPF_LINK_DETACH`.
pub fn detach_pinned_link(path: &Path) -> io::Result<()> {
    let link = pinned(path)?;
    let mut attribute = LinkDetachAttribute { link_fd: number(link.as_fd()) };
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(Command::LinkDetach, &mut attribute) }.map(drop)
}

/// Puts `program` in place of the one that the link pinned at `path` runs, in one step.
///
/// # Errors
/// Those of `BPF_OBJ_GET` and `BPF_LINK_UPDATE`.
pub fn update_pinned_link(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = pinned(path)?;
    let mut attribute = LinkUpdateAttribute {
        link_fd: number(link.as_fd()),
        new_prog_fd: number(program),
        ..Default::default()
    };
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(Command::LinkUpdate, &mut attribute) }.map(drop)
}

/// The id of the control group that the link pinned at `path` is on; 0 once that is gone.
///
/// # Errors
/// Those of `BPF_OBJ_GET` and `BPF_OBJ_GET_INFO_BY_FD`.
pub fn cgroup_of_pinned_link(path: &Path) -> io::Result<u64> {
    let link = pinned(path)?;
    let mut info = CgroupLinkInfo::default();
    let mut attribute = InfoAttribute {
        bpf_fd: number(link.as_fd()),
        info_len: count(size_of::<CgroupLinkInfo>()),
        info: address_mut(&mut info),
    };
    // SAFETY: `info` has room for the length stated and lives until the call returns, and any bytes
    // are a good one.
    unsafe { bpf(Command::ObjectInfo, &mut attribute) }?;
    Ok(info.cgroup_id)
}

/// What is pinned at `path`.
fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = ObjectAttribute { pathname: name.as_ptr() as u64, ..Default::default() };
    // SAFETY: `name` is a string that ends with a zero byte and lives until the call returns.
    let object = unsafe { bpf(Command::ObjectGet, &mut attribute) }?;
    // SAFETY: the kernel has just handed this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(object) })
}
