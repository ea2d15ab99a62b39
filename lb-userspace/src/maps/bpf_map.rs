//! A BPF map, opened by its pin, read and written in batches.

mod per_cpu;

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::MapData;
use bytemuck::Pod;
use lb_common::maps::{Kind, Map};

pub use self::per_cpu::PerCpuTable;

use super::error::MapError;
use super::other_layout::rows;
use crate::host::syscall;
use crate::pins::Pins;

/// Entries per batch: enough to make the cost of a call small, few enough that a table of millions is
/// never in memory at once.
pub const CHUNK: usize = 4096;

/// A map with keys `K` and values `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    data: MapData,
    map: &'static Map,
    capacity: u32,
    /// What a map of another layout held when it was opened, as rows of this build's; such a map is not written.
    read: Option<Vec<(K, V)>>,
    entry: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    /// Opens the pin of `map`.
    ///
    /// # Errors
    /// The pin is missing, or of a map with other keys or values.
    pub fn open(pins: &Pins, map: &'static Map) -> Result<Self, MapError> {
        let failed = |cause| MapError::new(map, "open", cause);
        let data = MapData::from_pin(pins.map(map)).map_err(|error| failed(cause(error)))?;
        let info = data.info().map_err(|error| failed(cause(error)))?;
        let capacity = info.max_entries();
        if let Some(layout) = pins.other_layout() {
            let rows = rows(&data, map, layout).map_err(failed)?;
            return Ok(Self { data, map, capacity, read: Some(rows), entry: PhantomData });
        }
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        if sizes != (size_of::<K>(), size_of::<V>()) {
            let text = "its entries are of another size, hence of another version of weir";
            return Err(failed(io::Error::other(text)));
        }
        Ok(Self { data, map, capacity, read: None, entry: PhantomData })
    }

    /// Name and capacity of the map.
    #[must_use]
    pub const fn capacity(&self) -> (&'static str, u32) {
        (self.map.name, self.capacity)
    }

    /// Calls `visit` with every entry, a batch at a time; it may remove entries. If the map is written
    /// meanwhile, an entry that exists all the time is visited; others may be.
    ///
    /// # Errors
    /// The kernel's error, or that of `visit`.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(K, V) -> Result<(), MapError>,
    ) -> Result<(), MapError> {
        if let Some(rows) = &self.read {
            return rows.iter().try_for_each(|(key, value)| visit(*key, *value));
        }
        let mut room = CHUNK;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut position = None;
        loop {
            keys.resize(room, K::zeroed());
            values.resize(room, V::zeroed());
            let (read, next) = match self.read(position, &mut keys, &mut values) {
                Ok(result) => result,
                // A hash bucket has more entries than the buffer holds: read again with a larger one.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(error) => return Err(self.failed("read", error)),
            };
            for (key, value) in keys.iter().zip(&values).take(read) {
                visit(*key, *value)?;
            }
            let Some(next) = next else {
                return Ok(());
            };
            position = Some(next);
        }
    }

    /// Whether it is an array, which has a value under every index.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        matches!(self.map.kind, Kind::Array | Kind::MappedArray)
    }

    /// Every entry at once, for maps of which the agent has a copy anyway.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut entries = Vec::new();
        self.for_each(|key, value| {
            entries.push((key, value));
            Ok(())
        })?;
        Ok(entries)
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// The kernel's error; a missing entry is not one.
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        if let Some(rows) = &self.read {
            let is_it = |(other, _): &&(K, V)| bytemuck::bytes_of(other) == bytemuck::bytes_of(key);
            return Ok(rows.iter().find(is_it).map(|(_, value)| *value));
        }
        match syscall::lookup(self.fd(), key) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(self.failed("look up an entry of", error)),
        }
    }

    /// Writes an entry, or replaces the one with the same key.
    ///
    /// # Errors
    /// The kernel's error; the map is then unchanged.
    pub fn set(&self, key: K, value: V) -> Result<(), MapError> {
        self.set_all(&[key], &[value])
    }

    /// Writes an entry, unless there is one with the same key.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn insert(&self, key: K, value: V) -> Result<(), MapError> {
        match syscall::insert(self.fd(), &key, &value) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.failed("write", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes entries, or replaces those with the same keys.
    ///
    /// # Errors
    /// The kernel's error; the entries before the failed one are written.
    pub fn set_all(&self, keys: &[K], values: &[V]) -> Result<(), MapError> {
        self.set_first(keys, values).1
    }

    /// Writes entries as [`Self::set_all`]; returns how many, which are the first ones, and the error that stopped it.
    pub fn set_first(&self, keys: &[K], values: &[V]) -> (usize, Result<(), MapError>) {
        let (done, result) = syscall::update_batch(self.fd(), keys, values);
        (done, result.map_err(|error| self.failed("write", error)))
    }

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn remove(&self, key: K) -> Result<(), MapError> {
        match syscall::delete_batch(self.fd(), &[key]).1 {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                Err(self.failed("remove an entry of", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn read(
        &self,
        position: Option<K>,
        keys: &mut [K],
        values: &mut [V],
    ) -> io::Result<(usize, Option<K>)> {
        syscall::lookup_batch(self.fd(), position, keys, values)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    fn failed(&self, operation: &'static str, cause: io::Error) -> MapError {
        MapError::new(self.map, operation, cause)
    }
}

impl<V: Pod> Table<u32, V> {
    /// At most `count` values of an array from index `first`.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn range(&self, first: u32, count: u32) -> Result<Vec<V>, MapError> {
        debug_assert!(self.is_array());
        if let Some(rows) = &self.read {
            let rows = rows.iter().skip(first as usize).take(count as usize);
            return Ok(rows.map(|(_, value)| *value).collect());
        }
        let mut keys = vec![0; count as usize];
        let mut values = vec![V::zeroed(); count as usize];
        // An array is read from the index after the position.
        let (read, _) = self
            .read(first.checked_sub(1), &mut keys, &mut values)
            .map_err(|error| self.failed("read", error))?;
        values.truncate(read);
        Ok(values)
    }
}

/// The kernel's error, out of aya's.
fn cause(error: aya::maps::MapError) -> io::Error {
    if let aya::maps::MapError::SyscallError(error) = error {
        error.io_error
    } else {
        io::Error::other(error)
    }
}
