//! Entries of maps whose keys and values no type of this build describes.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use super::bpf::{Command, bpf, count, number};
use super::map_entries::{BatchAttribute, EntryAttribute, takes_no_batches};

/// Entries per call.
const CHUNK: usize = 4096;

/// Bytes of keys and values of a map.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Of a key.
    pub key: usize,
    /// Of a value; of a map per processor, the bytes of all of them, each rounded up to eight.
    pub value: usize,
}

/// Calls `visit` with every entry of a map that has these `sizes`, until it breaks. If the map is written meanwhile, an entry that exists
/// all the time is visited; others may be.
///
/// # Errors
/// Those of `BPF_MAP_LOOKUP_BATCH`, or those of `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_GET_NEXT_KEY`.
pub fn for_each_raw(
    map: BorrowedFd<'_>,
    sizes: Sizes,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut room = CHUNK;
    let mut position: Option<Vec<u8>> = None;
    loop {
        let (mut keys, mut values) = (vec![0; room * sizes.key], vec![0; room * sizes.value]);
        // Of a hash a position is four bytes, of all other maps a whole key.
        let mut next = vec![0_u8; sizes.key.max(size_of::<u32>())];
        let mut attribute = BatchAttribute {
            in_batch: position.as_ref().map_or(0, |position| position.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: count(room),
            map_fd: number(map),
            ..Default::default()
        };
        // SAFETY: the vectors live until the call returns; `keys` and `values` have room for `count` entries of the
        // map, whose sizes the caller has from the kernel, and `next` for a position.
        let result = unsafe { bpf(Command::LookupBatch, &mut attribute) };
        let is_end = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // A bucket of a hash has more entries than fit.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(error) if takes_no_batches(&error) && position.is_none() => {
                return for_each_singly(map, sizes, visit);
            }
            Err(error) => return Err(error),
        };
        let entries = keys.chunks_exact(sizes.key).zip(values.chunks_exact(sizes.value));
        let mut entries = entries.take(attribute.count as usize);
        if entries.try_for_each(|(key, value)| visit(key, value)).is_break() || is_end {
            return Ok(());
        }
        position = Some(next);
    }
}

/// The same of a map that takes no batches.
fn for_each_singly(
    map: BorrowedFd<'_>,
    sizes: Sizes,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut key: Option<Vec<u8>> = None;
    let (mut next, mut value) = (vec![0; sizes.key], vec![0; sizes.value]);
    let found = |result: io::Result<i32>| match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    };
    loop {
        let mut attribute = EntryAttribute {
            map_fd: number(map),
            key: key.as_ref().map_or(0, |key| key.as_ptr() as u64),
            value: next.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: both keys live until the call returns and have the size of the map's.
        if !found(unsafe { bpf(Command::NextKey, &mut attribute) })? {
            return Ok(());
        }
        let mut attribute = EntryAttribute {
            map_fd: number(map),
            key: next.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: key and value live until the call returns and have the sizes of the map's.
        if found(unsafe { bpf(Command::Lookup, &mut attribute) })?
            && visit(&next, &value).is_break()
        {
            return Ok(());
        }
        key = Some(next.clone());
    }
}
