//! A conntrack table of the kernel, mapped into memory: it is read and collected without a system call.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use aya::maps::MapData;
use lb_common::address::Tuple;
use lb_common::conntrack::table::{
    self, NotInserted, Removed, Slices, Stamp, Stored, WAYS, WhenFull, words,
};
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_common::maps::Map;

use super::error::MapError;
use crate::host::syscall::Mapped;
use crate::pins::Pins;

/// A conntrack table of one family.
#[derive(Debug)]
pub struct FlowTable<A> {
    buckets: Mapped,
    name: &'static str,
    capacity: u32,
    family: PhantomData<A>,
}

impl<A: Stored> FlowTable<A> {
    /// Maps a pinned table.
    ///
    /// # Errors
    /// It is missing, of another version, or cannot be mapped.
    pub fn open(pins: &Pins, map: &'static Map) -> Result<Self, MapError> {
        let failed = |cause: io::Error| MapError::new(map, "open", cause);
        let data = MapData::from_pin(pins.map(map)).map_err(|e| failed(io::Error::other(e)))?;
        let info = data.info().map_err(|error| failed(io::Error::other(error)))?;
        if info.value_size() != map.value_size {
            let text = "its entries are of another size, hence of another version of weir";
            return Err(failed(io::Error::other(text)));
        }
        let count = info.max_entries();
        let table = Self::map(data.fd().as_fd(), count);
        let table = table.map_err(|error| MapError::new(map, "map", error))?;
        Ok(Self { name: map.name, capacity: map.capacity.usable(count), ..table })
    }

    /// Maps a table of `count` buckets.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn map(map: impl AsFd, count: u32) -> io::Result<Self> {
        let words = count as usize * size_of::<A::Bucket>() / size_of::<u64>();
        let buckets = Mapped::new(map, words)?;
        Ok(Self { buckets, name: "", capacity: count * WAYS, family: PhantomData })
    }

    const fn memory(&self) -> Slices<'_> {
        Slices::new(self.buckets.words(), words::<A>())
    }

    /// Name of the map, and how many entries the table can be counted on to hold.
    #[must_use]
    pub const fn capacity(&self) -> (&'static str, u32) {
        (self.name, self.capacity)
    }

    /// Calls `visit` with every entry; it may change the table. If the programs change it meanwhile, an entry that
    /// exists all the time is visited; others may be.
    ///
    /// # Errors
    /// That of `visit`.
    pub fn for_each<E>(
        &self,
        now: impl Fn() -> Ticks,
        visit: impl FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), E>,
    ) -> Result<(), E> {
        table::for_each(self.memory(), now, visit)
    }

    /// The entry of `tuple`; this does not count as seen.
    #[must_use]
    pub fn find(&self, tuple: &Tuple<A>, now: Ticks) -> Option<ConntrackEntry<A>> {
        let mut entry = ConntrackEntry::empty();
        table::read(self.memory(), tuple, now, &mut entry).then_some(entry)
    }

    /// Removes the entry of `tuple` if it is still as `read` has it.
    pub fn remove(&self, tuple: &Tuple<A>, now: Ticks, read: &ConntrackEntry<A>) -> Removed {
        table::remove_unchanged(self.memory(), tuple, now, read)
    }

    /// Changes what two readings of the entry of `tuple` differ in, if there is one.
    pub fn change(&self, tuple: &Tuple<A>, before: &ConntrackEntry<A>, after: &ConntrackEntry<A>) {
        table::set_state(self.memory(), tuple, before.state, after.state);
        if before.expected != after.expected {
            table::set_expected(self.memory(), tuple, after.expected);
        }
    }

    /// Empties the table, while no program runs.
    pub fn clear(&self) {
        for word in self.buckets.words() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Inserts an entry, as a program does.
    ///
    /// # Errors
    /// [`NotInserted`]
    pub fn insert(
        &self,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
        when_full: WhenFull,
    ) -> Result<(), NotInserted> {
        let seen = Stamp::of_ticks(entry.last_seen);
        table::insert(self.memory(), tuple, entry, seen, when_full)
    }
}
