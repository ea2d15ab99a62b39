//! The calls of bpf(2) that aya does not make: batches of map entries, the detaching of a link at
//! once, the running of a few instructions; and the reading of iptables' rules. The only module of
//! the agent with `unsafe`.

#![allow(unsafe_code, reason = "these calls take pointers; each says why they are good")]

use std::ffi::CString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::Pod;
use lb_common::address::Family;

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy)]
enum Command {
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

/// What the kernel answers to a batch of entries of a kind of map that takes none: of tries before Linux
/// 5.13. It has no number for it that programs are meant to see (`include/linux/errno.h`).
const ENOTSUPP: i32 = 524;

/// The member for `BPF_MAP_*_ELEM` and `BPF_MAP_GET_NEXT_KEY`.
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

/// The member for `BPF_PROG_QUERY`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct ProgramQueryAttribute {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The member for `BPF_LINK_DETACH`.
#[derive(Default)]
#[repr(C)]
struct LinkDetachAttribute {
    link_fd: u32,
}

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

/// Writes `value` in the place of the one under `key`.
///
/// # Errors
/// Those of `BPF_MAP_UPDATE_ELEM`: `ENOENT` if there is none.
pub fn replace<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const EXIST: u64 = 2;
    update(map, key, value, EXIST)
}

fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V, flags: u64) -> io::Result<()> {
    let mut attribute = EntryAttribute {
        map_fd: number(map),
        key: address(key),
        value: address(value),
        flags,
        ..Default::default()
    };
    // SAFETY: `key` and `value` live until the call returns, their sizes are those that the callers
    // have compared with the map's, and the kernel writes to neither.
    unsafe { bpf(Command::Update, &mut attribute) }.map(drop)
}

/// Reads entries from `position` on (`None` is the start) into `keys` and `values`, as many as fit
/// in the shorter of them; returns how many, and where to go on or `None` at the end.
///
/// A position is opaque. Of a hash it is four bytes, of all other maps a whole key, so a key has the
/// room for it: see `generic_map_lookup_batch` in
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/syscall.c>.
///
/// # Errors
/// Those of `BPF_MAP_LOOKUP_BATCH`: `ENOSPC` if a bucket of a hash has more entries than fit.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    position: Option<K>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<K>)> {
    const { assert!(size_of::<K>() >= size_of::<u32>(), "a hash's position has no room") };
    let start = position.unwrap_or(K::zeroed());
    let mut next = K::zeroed();
    let mut attribute = BatchAttribute {
        in_batch: position.map_or(0, |_| address(&start)),
        out_batch: address_mut(&mut next),
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: count(keys.len().min(values.len())),
        map_fd: number(map),
        ..Default::default()
    };
    // SAFETY: `start` and `next` live until the call returns and have room for a position, as above;
    // `keys` and `values` have room for `count` entries of the map, whose key and value the callers
    // have compared with `K` and `V`, and any bytes are good values of those.
    let result = unsafe { bpf(Command::LookupBatch, &mut attribute) };
    let read = attribute.count as usize;
    match result {
        Ok(_) => Ok((read, Some(next))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((read, None)),
        Err(error) if takes_no_batches(&error) => lookup_singly(map, position, keys, values),
        Err(error) => Err(error),
    }
}

fn takes_no_batches(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENOTSUPP)
}

/// [`lookup_batch`] of a map that takes no batches: a position is the last key that was read.
fn lookup_singly<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    mut position: Option<K>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<K>)> {
    let room = keys.len().min(values.len());
    let mut read = 0;
    while read < room {
        let Some(key) = next_key(map, position.as_ref())? else { return Ok((read, None)) };
        position = Some(key);
        match lookup(map, &key) {
            Ok(value) => {
                (keys[read], values[read]) = (key, value);
                read += 1;
            }
            // Removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((read, position))
}

/// The key after `key`, or the first one; `None` at the end.
fn next_key<K: Pod>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::zeroed();
    let mut attribute = EntryAttribute {
        map_fd: number(map),
        key: key.map_or(0, address),
        value: address_mut(&mut next),
        ..Default::default()
    };
    // SAFETY: `key` and `next` live until the call returns, their size is that which the callers have
    // compared with the map's, and any bytes are a good `K`.
    match unsafe { bpf(Command::NextKey, &mut attribute) } {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
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
    match result {
        Err(error) if takes_no_batches(&error) => {
            singly(keys.len().min(values.len()), |i| update(map, &keys[i], &values[i], 0))
        }
        result => (attribute.count as usize, result.map(drop)),
    }
}

/// Does something with each of `count` entries until it fails; returns with how many it was done.
fn singly(count: usize, one: impl Fn(usize) -> io::Result<()>) -> (usize, io::Result<()>) {
    let failed = (0..count).find_map(|i| one(i).err().map(|error| (i, error)));
    failed.map_or((count, Ok(())), |(done, error)| (done, Err(error)))
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
    match result {
        Err(error) if takes_no_batches(&error) => singly(keys.len(), |i| delete(map, &keys[i])),
        result => (attribute.count as usize, result.map(drop)),
    }
}

/// Removes the entry under `key`.
fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attribute =
        EntryAttribute { map_fd: number(map), key: address(key), ..Default::default() };
    // SAFETY: as in `update`, and there is no value.
    unsafe { bpf(Command::Delete, &mut attribute) }.map(drop)
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

/// Puts `program` in the place of the one that the link pinned at `path` runs, in one step.
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

/// Whether the kernel has links at TC (Linux 6.6). It is asked for those of a device that nobody has: a
/// kernel that has them looks for the device, an older one does not know the question.
pub fn knows_tcx() -> bool {
    const TCX_INGRESS: u32 = 46;
    let mut attribute = ProgramQueryAttribute {
        target_ifindex: i32::MAX.unsigned_abs(),
        attach_type: TCX_INGRESS,
        ..Default::default()
    };
    // SAFETY: the attribute holds no pointer.
    let asked = unsafe { bpf(Command::ProgramQuery, &mut attribute) };
    asked.err().is_none_or(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// The cookie of our network namespace, by which programs know it.
///
/// # Errors
/// Those of getsockopt(2): `ENOPROTOOPT` before Linux 5.14.
pub fn namespace_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let mut cookie = [0; 8];
    option(&socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}

/// The cookie of a socket, by which programs know it.
///
/// # Errors
/// Those of getsockopt(2).
pub fn socket_cookie(socket: &UdpSocket) -> io::Result<u64> {
    let mut cookie = [0; 8];
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
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

/// The rules of one of iptables' tables as the kernel holds them: chains and rules one after the
/// other, in bytes (`struct ipt_entry` of `include/uapi/linux/netfilter_ipv4/ip_tables.h`). `socket`
/// is any of the family.
///
/// # Errors
/// Those of getsockopt(2): `EPERM` without `CAP_NET_ADMIN`, `EAGAIN` if the table is replaced
/// meanwhile.
pub fn iptables_rules(socket: &UdpSocket, family: Family, table: &str) -> io::Result<Vec<u8>> {
    // `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the name in front, `size` last and before the rules.
    const INFO: (libc::c_int, usize) = (64, 84);
    const ENTRIES: (libc::c_int, usize) = (65, 40);
    const NAME: usize = 32;
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let named = |length: usize| {
        let mut value = vec![0; length];
        let name = table.as_bytes().get(..NAME - 1).unwrap_or(table.as_bytes());
        value[..name.len()].copy_from_slice(name);
        value
    };
    let mut info = named(INFO.1);
    option(socket, level, INFO.0, &mut info)?;
    let size = info[INFO.1 - 4..].first_chunk().map_or(0, |size| u32::from_ne_bytes(*size));
    let mut rules = named(ENTRIES.1 + size as usize);
    rules[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    option(socket, level, ENTRIES.0, &mut rules)?;
    rules.drain(..ENTRIES.1);
    Ok(rules)
}

/// getsockopt(2) of an option that reads `value` and overwrites it.
fn option(socket: &UdpSocket, level: i32, name: i32, value: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let value = value.as_mut_ptr().cast();
    // SAFETY: `value` has room for `length` bytes, the kernel writes no more than that, and any bytes
    // are good ones.
    let answer =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value, &raw mut length) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
