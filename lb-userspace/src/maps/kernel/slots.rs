//! `SLOTS`: an array of millions, mapped into memory, so that a pool is written without a system call.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use aya::maps::MapData;
use lb_common::backend::BackendId;
use lb_common::maps;

use crate::host::syscall::Mapped;
use crate::maps::bpf_map::Table;
use crate::maps::contents::PoolSlots;
use crate::maps::error::MapError;
use crate::pins::Pins;

/// The slots of all pools.
pub(super) enum SlotTable {
    /// Of this build. The kernel gives each value eight bytes, so a slot is the beginning of a word.
    Own { words: Mapped, capacity: u32 },
    /// Of another layout, which is read alone.
    Other(Table<u32, u32>),
}

impl SlotTable {
    pub(super) fn open(pins: &Pins) -> Result<Self, MapError> {
        if pins.other_layout().is_some() {
            return Table::open(pins, &maps::SLOTS).map(Self::Other);
        }
        let failed = |cause: io::Error| MapError::new(&maps::SLOTS, "open", cause);
        let data = MapData::from_pin(pins.map(&maps::SLOTS));
        let data = data.map_err(|error| failed(io::Error::other(error)))?;
        let info = data.info().map_err(|error| failed(io::Error::other(error)))?;
        let capacity = info.max_entries();
        let words = Mapped::new(data.fd().as_fd(), capacity as usize);
        let words = words.map_err(|error| MapError::new(&maps::SLOTS, "map", error))?;
        Ok(Self::Own { words, capacity })
    }

    /// Name and capacity of the map.
    pub(super) const fn capacity(&self) -> (&'static str, u32) {
        match self {
            Self::Own { capacity, .. } => (maps::SLOTS.name, *capacity),
            Self::Other(table) => table.capacity(),
        }
    }

    /// At most `length` slots from index `base`.
    pub(super) fn read(&self, base: u32, length: u32) -> Result<Vec<BackendId>, MapError> {
        match self {
            Self::Own { words, .. } => {
                let words = words.words().iter().skip(base as usize).take(length as usize);
                let values = words.map(|word| first_half(word.load(Ordering::Relaxed)));
                Ok(values.map(BackendId).collect())
            }
            Self::Other(table) => {
                Ok(table.range(base, length)?.into_iter().map(BackendId).collect())
            }
        }
    }

    /// Writes a pool from index `base` on. No frontend refers to it yet: the system call that writes the
    /// frontend comes after these stores, and so does whatever a program reads by it.
    pub(super) fn write(&self, base: u32, slots: &PoolSlots) -> Result<(), MapError> {
        let failed = |cause| Err(MapError::new(&maps::SLOTS, "write", io::Error::other(cause)));
        let Some(ids) = slots.ids() else {
            return failed("what these slots hold is forgotten: report this");
        };
        let Self::Own { words, .. } = self else {
            return failed("it is of another layout: report this");
        };
        let words = words.words().get(base as usize..).and_then(|words| words.get(..ids.len()));
        let Some(words) = words else {
            return failed("the pool ends behind the table: report this");
        };
        for (word, id) in words.iter().zip(ids) {
            word.store(with_first_half(id.0), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The first four bytes of a word.
fn first_half(word: u64) -> u32 {
    let [value, _]: [u32; 2] = bytemuck::cast(word);
    value
}

/// A word whose first four bytes are these; nobody reads the others.
fn with_first_half(value: u32) -> u64 {
    bytemuck::cast([value, 0])
}
