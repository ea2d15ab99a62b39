//! Entries of maps, singly and in batches.

use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::Pod;

use super::bpf::{Command, address, address_mut, bpf, count, number};

/// The errno for a batch of entries of a kind of map that takes none: of tries before Linux
/// 5.13. It has no number for it that programs are meant to see (`include/linux/errno.h`).
const ENOTSUPP: i32 = 524;

/// The member for `BPF_MAP_*_ELEM` and `BPF_MAP_GET_NEXT_KEY`.
#[derive(Default)]
#[repr(C)]
pub(super) struct EntryAttribute {
    pub map_fd: u32,
    pub padding: u32,
    pub key: u64,
    pub value: u64,
    pub flags: u64,
}

/// The `batch` member of `union bpf_attr`: three pointers, the position to go on from, and counts.
#[derive(Default)]
#[repr(C)]
pub(super) struct BatchAttribute {
    pub in_batch: u64,
    pub out_batch: u64,
    pub keys: u64,
    pub values: u64,
    pub count: u32,
    pub map_fd: u32,
    pub elem_flags: u64,
    pub flags: u64,
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

/// Writes `value` in place of the one under `key`.
///
/// # Errors
/// Those of `BPF_MAP_UPDATE_ELEM`: `ENOENT` if there is none.
pub fn replace<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const EXIST: u64 = 2;
    update(map, key, value, EXIST)
}

/// Writes `value` under `key`, where there is none.
///
/// # Errors
/// Those of `BPF_MAP_UPDATE_ELEM`: `EEXIST` if there is one.
pub fn insert<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const NO_EXIST: u64 = 1;
    update(map, key, value, NO_EXIST)
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

pub(super) fn takes_no_batches(error: &io::Error) -> bool {
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
        result => done(attribute.count as usize, keys.len().min(values.len()), result),
    }
}

/// With how many of `all` entries it was done. The kernel writes no count if it fails before the first (`-ENOMEM`), and
/// never fails after the last: see `generic_map_update_batch` in
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/syscall.c>.
fn done(count: usize, all: usize, result: io::Result<i32>) -> (usize, io::Result<()>) {
    match result {
        Ok(_) => (count, Ok(())),
        Err(error) => (if count < all { count } else { 0 }, Err(error)),
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
        result => done(attribute.count as usize, keys.len(), result),
    }
}

/// Removes the entry under `key`.
fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attribute =
        EntryAttribute { map_fd: number(map), key: address(key), ..Default::default() };
    // SAFETY: as in `update`, and there is no value.
    unsafe { bpf(Command::Delete, &mut attribute) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_fails_without_a_count_has_done_nothing() {
        let failed = || Err(io::Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(done(10, 10, failed()).0, 0, "no count was written");
        assert_eq!(done(0, 10, failed()).0, 0);
        assert_eq!(done(9, 10, failed()).0, 9);
        assert_eq!(done(10, 10, Ok(0)).0, 10);
    }
}
