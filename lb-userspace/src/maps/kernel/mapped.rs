//! Arrays of small values, mapped into memory, so that they are written without a system call.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use bytemuck::Pod;
use lb_common::maps::Map;

use crate::host::syscall::Mapped;
use crate::maps::bpf_map::Table;
use crate::maps::error::MapError;
use crate::pins::Pins;

/// A value of such an array. The kernel gives each eight bytes.
pub(super) trait Value: Pod {
    /// The value that a word begins with.
    fn of_word(word: u64) -> Self;
    /// A word that begins with the value; nobody reads what follows it.
    fn to_word(self) -> u64;
}

impl Value for u64 {
    fn of_word(word: u64) -> Self {
        word
    }

    fn to_word(self) -> u64 {
        self
    }
}

impl Value for u32 {
    fn of_word(word: u64) -> Self {
        let [value, _]: [Self; 2] = bytemuck::cast(word);
        value
    }

    fn to_word(self) -> u64 {
        bytemuck::cast([self, 0])
    }
}

/// An array of the kernel made with `BPF_F_MMAPABLE`.
pub(super) struct MappedTable<V> {
    map: &'static Map,
    capacity: u32,
    memory: Memory<V>,
}

enum Memory<V> {
    /// It is mapped when it is first read or written: who reads other tables alone does without.
    Own { data: MapData, words: OnceLock<Mapped> },
    /// Of another layout, which is read alone.
    Other(Table<u32, V>),
}

impl<V: Value> MappedTable<V> {
    /// Opens the pin of `map`; fails if it is missing, or of a map with other values.
    pub(super) fn open(pins: &Pins, map: &'static Map) -> Result<Self, MapError> {
        if pins.other_layout().is_some() {
            let table = Table::open(pins, map)?;
            return Ok(Self { map, capacity: table.capacity().1, memory: Memory::Other(table) });
        }
        let failed = |cause: io::Error| MapError::new(map, "open", cause);
        let data = MapData::from_pin(pins.map(map));
        let data = data.map_err(|error| failed(io::Error::other(error)))?;
        let info = data.info().map_err(|error| failed(io::Error::other(error)))?;
        if info.value_size() as usize != size_of::<V>() {
            let text = "its values are of another size, hence of another version of weir";
            return Err(failed(io::Error::other(text)));
        }
        let capacity = info.max_entries();
        Ok(Self { map, capacity, memory: Memory::Own { data, words: OnceLock::new() } })
    }

    fn mapped<'a>(
        &self,
        data: &MapData,
        words: &'a OnceLock<Mapped>,
    ) -> Result<&'a [AtomicU64], MapError> {
        if let Some(words) = words.get() {
            return Ok(words.words());
        }
        let mapped = Mapped::new(data.fd().as_fd(), self.capacity as usize);
        let mapped = mapped.map_err(|error| MapError::new(self.map, "map", error))?;
        Ok(words.get_or_init(|| mapped).words())
    }

    /// Name and capacity of the map.
    pub(super) const fn capacity(&self) -> (&'static str, u32) {
        (self.map.name, self.capacity)
    }

    /// At most `length` values from index `first` on.
    pub(super) fn range(&self, first: u32, length: u32) -> Result<Vec<V>, MapError> {
        match &self.memory {
            Memory::Own { data, words } => {
                let words = self.mapped(data, words)?.iter();
                let words = words.skip(first as usize).take(length as usize);
                Ok(words.map(|word| V::of_word(word.load(Ordering::Relaxed))).collect())
            }
            Memory::Other(table) => table.range(first, length),
        }
    }

    /// Writes values from index `first` on, each at once; no program sees one before what was written earlier.
    ///
    /// Nor does it see what the agent writes next, by a system call, before these: the kernel publishes entries of a hash
    /// by a release store (`hlist_nulls_add_head_rcu`), which comes after all earlier ones.
    pub(super) fn write(
        &self,
        first: u32,
        values: impl ExactSizeIterator<Item = V>,
    ) -> Result<(), MapError> {
        let failed = |cause| Err(MapError::new(self.map, "write", io::Error::other(cause)));
        let Memory::Own { data, words } = &self.memory else {
            return failed("it is of another layout: report this");
        };
        let words = self.mapped(data, words)?.get(first as usize..);
        let Some(words) = words.and_then(|words| words.get(..values.len())) else {
            return failed("it is shorter than what is to be written: report this");
        };
        for (word, value) in words.iter().zip(values) {
            word.store(value.to_word(), Ordering::Release);
        }
        Ok(())
    }
}
