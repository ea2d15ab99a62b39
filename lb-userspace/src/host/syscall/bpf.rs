//! bpf(2) itself: the commands, the call, and the numbers and addresses that its attributes hold.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy)]
pub(super) enum Command {
    Lookup = 1,
    Update = 2,
    Delete = 3,
    NextKey = 4,
    ProgramLoad = 5,
    ObjectGet = 7,
    ProgramTestRun = 10,
    ObjectInfo = 15,
    ProgramQuery = 16,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// bpf(2).
///
/// # Safety
/// The pointers in `attribute` must be good for what `command` reads and writes through them.
pub(super) unsafe fn bpf<A>(command: Command, attribute: &mut A) -> io::Result<i32> {
    // SAFETY: `attribute` is as long as we say, and the caller guarantees what it points to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attribute),
            size_of::<A>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

pub(super) fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

pub(super) fn address_mut<T>(value: &mut T) -> u64 {
    std::ptr::from_mut(value) as u64
}

/// Batches beyond 2^32 entries would be cut: no map is that large.
pub(super) fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}

pub(super) fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().unsigned_abs()
}
