//! The calls of bpf(2) that aya does not make: batches of map entries, the detaching of a link at
//! once, the running of a few instructions. The only module of the agent with `unsafe`.

#![allow(unsafe_code, reason = "bpf(2) takes pointers; each call says why they are good")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::Pod;

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy)]
enum Command {
    Lookup = 1,
    ProgramLoad = 5,
    ObjectGet = 7,
    ProgramTestRun = 10,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
    LinkDetach = 34,
}

/// The member for `BPF_MAP_*_ELEM`.
#[derive(Default)]
#[repr(C)]
struct EntryAttribute {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The `batch` member of `union bpf_attr`: three pointers, the place to go on at, and counts.
#[derive(Default)]
#[repr(C)]
struct BatchAttribute {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The member for `BPF_OBJ_*`.
#[derive(Default)]
#[repr(C)]
struct ObjectAttribute {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The member for `BPF_PROG_LOAD`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct ProgramAttribute {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The member for `BPF_PROG_TEST_RUN`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct TestRunAttribute {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The member for `BPF_LINK_DETACH`.
#[derive(Default)]
#[repr(C)]
struct LinkDetachAttribute {
    link_fd: u32,
}

/// Where a walk over a map goes on: opaque to user space, four bytes for every kind of map.
pub type Position = u32;

/// Reads the value under `key`. Of a least-recently-used hash this does not count as use.
///
/// # Errors
/// Those of `BPF_MAP_LOOKUP_ELEM`: `ENOENT` if there is none.
pub fn lookup<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::zeroed();
    let mut attribute = EntryAttribute {
        map_fd: number(map),
        key: address(key),
        value: address_mut(&mut value),
        ..Default::default()
    };
    // SAFETY: `key` and `value` live until the call returns, their sizes are those that the callers
    // have compared with the map's, and any bytes are a good `V`.
    unsafe { bpf(Command::Lookup, &mut attribute) }?;
    Ok(value)
}

/// Reads entries from `position` on (`None` is the start) into `keys` and `values`, as many as fit
/// in the shorter of them; returns how many, and where to go on or `None` at the end.
///
/// # Errors
/// Those of `BPF_MAP_LOOKUP_BATCH`: `ENOSPC` if a bucket of a hash has more entries than fit.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: Option<Position>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<Position>)> {
    let start = position.unwrap_or_default();
    let mut next: Position = 0;
    let mut attribute = BatchAttribute {
        in_batch: position.map_or(0, |_| address(&start)),
        out_batch: address_mut(&mut next),
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: count(keys.len().min(values.len())),
        map_fd: number(map),
        ..Default::default()
    };
    // SAFETY: `start` and `next` live until the call returns; `keys` and `values` have room for
    // `count` entries of the map, whose key and value the callers have compared with `K` and `V`,
    // and any bytes are good values of those.
    let result = unsafe { bpf(Command::LookupBatch, &mut attribute) };
    let read = attribute.count as usize;
    match result {
        Ok(_) => Ok((read, Some(next))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((read, None)),
        Err(error) => Err(error),
    }
}

/// Writes `values` under `keys`, replacing what is there; returns how many were written, which are
/// the first ones, and the error that stopped it.
pub fn update_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> (usize, io::Result<()>) {
    if keys.is_empty() {
        return (0, Ok(()));
    }
    let mut attribute = BatchAttribute {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: count(keys.len().min(values.len())),
        map_fd: number(map),
        ..Default::default()
    };
    // SAFETY: the kernel reads `count` keys and values of the sizes that the callers have compared
    // with the map's, and writes nothing but `attribute`.
    let result = unsafe { bpf(Command::UpdateBatch, &mut attribute) };
    (attribute.count as usize, result.map(drop))
}

/// Removes the entries under `keys`; stops at the first that is not there. Returns how many were
/// removed and the error that stopped it.
pub fn delete_batch<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> (usize, io::Result<()>) {
    if keys.is_empty() {
        return (0, Ok(()));
    }
    let mut attribute = BatchAttribute {
        keys: keys.as_ptr() as u64,
        count: count(keys.len()),
        map_fd: number(map),
        ..Default::default()
    };
    // SAFETY: the kernel reads `count` keys of the size that the callers have compared with the
    // map's, and writes nothing but `attribute`.
    let result = unsafe { bpf(Command::DeleteBatch, &mut attribute) };
    (attribute.count as usize, result.map(drop))
}

/// Detaches the link pinned at `path` at once; removing a pin alone leaves it attached until a
/// kernel thread gets to it.
///
/// # Errors
/// Those of `BPF_OBJ_GET` and `BPF_LINK_DETACH`.
pub fn detach_pinned_link(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = ObjectAttribute { pathname: name.as_ptr() as u64, ..Default::default() };
    // SAFETY: `name` is a string that ends with a zero byte and lives until the call returns.
    let link = unsafe { bpf(Command::ObjectGet, &mut attribute) }?;
    // SAFETY: the kernel has just handed this descriptor to us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    let mut attribute = LinkDetachAttribute { link_fd: number(link.as_fd()) };
    // SAFETY: the attribute holds no pointer.
    unsafe { bpf(Command::LinkDetach, &mut attribute) }.map(drop)
}

/// Runs the instructions of a program for TC once on `packet` and returns what they leave in
/// register 0.
///
/// # Errors
/// Those of `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN`.
pub fn run_at_tc(instructions: &[u64], packet: &[u8]) -> io::Result<u32> {
    const SCHED_CLS: u32 = 3;
    let license = c"GPL";
    let mut attribute = ProgramAttribute {
        prog_type: SCHED_CLS,
        insn_cnt: count(instructions.len()),
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: there are `insn_cnt` instructions of eight bytes, and `license` ends with a zero byte.
    let program = unsafe { bpf(Command::ProgramLoad, &mut attribute) }?;
    // SAFETY: the kernel has just handed this descriptor to us, and nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let mut attribute = TestRunAttribute {
        prog_fd: number(program.as_fd()),
        data_size_in: count(packet.len()),
        data_in: packet.as_ptr() as u64,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: the packet is `data_size_in` bytes long; without `data_out` nothing is written back.
    unsafe { bpf(Command::ProgramTestRun, &mut attribute) }?;
    Ok(attribute.retval)
}

/// bpf(2).
///
/// # Safety
/// The pointers in `attribute` must be good for what `command` reads and writes through them.
unsafe fn bpf<A>(command: Command, attribute: &mut A) -> io::Result<i32> {
    // SAFETY: `attribute` is as long as we say, and the caller answers for what it points to.
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

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

fn address_mut<T>(value: &mut T) -> u64 {
    std::ptr::from_mut(value) as u64
}

/// Batches beyond 2^32 entries would be cut: no map is that large.
fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().unsigned_abs()
}
