//! A table of conntrack entries in plain memory: an array of buckets of [`WAYS`] places. A tuple's entry is in
//! one of two buckets, which its hash names. A place has a header ([`Header`]) and contents; the eight headers of a
//! bucket fill a cache line, and the contents of its places follow.
//!
//! Several CPUs, and the agent, change it at the same time without a lock. A place is claimed by a
//! compare-and-swap on its header, written, and published by another one. Whoever reads contents reads the
//! header again afterwards: if the place was claimed meanwhile, what was read counts as not found. Nothing is
//! ever moved.
//!
//! Of several CPUs that insert entries of the same tuple at once exactly one succeeds: each first claims a
//! place, then looks at all others of both buckets. It gives up if one holds such an entry already, or is
//! being written with the same hash and comes first; and it takes the claim away from one that comes later.
//! Two of different tuples may have the same hash of 32 bits; then one of the two gets "exists",
//! though it does not, and its packet goes on without an entry of its own.
//!
//! This needs atomic loads and stores of 64 bits, a compare-and-swap that is a full barrier, and that loads are
//! not reordered with loads, nor stores with stores, as on x86-64.

mod backing;
mod contents;
mod fields;
mod find;
mod header;
mod insert;
mod position;
#[cfg(target_has_atomic = "64")]
mod slices;
mod stamp;
mod steps;
#[cfg(test)]
mod tests;

pub use self::backing::{Memory, WAYS};
pub use self::contents::{Stored, words};
use self::contents::{at, expected_word};
pub use self::fields::fields;
use self::find::{Found, Key, find, find_likely};
pub use self::header::{Header, Pattern, Phase};
pub use self::insert::{NotInserted, WhenFull, insert};
use self::position::Position;
#[cfg(target_has_atomic = "64")]
pub use self::slices::Slices;
pub use self::stamp::Stamp;
pub use self::steps::{Steps, free, is_first, is_written, oldest, over, search, search_all};
use super::{ConntrackEntry, State, Ticks};
use crate::address::{Address, Tuple};

/// Attempts to change a header, where others do the same.
const ATTEMPTS: u32 = 4;

/// Reads the entry of `tuple` into `entry`, and returns whether there is one. If it has not been seen in this
/// tick, it now is; and `acknowledgment` becomes what is expected, where it moves that.
#[inline(always)]
pub fn read_and_touch<A: Address, M: Steps<A>>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    acknowledgment: u32,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    find(memory, tuple)
        .is_some_and(|found| read_and_touch_found(memory, &found, now, acknowledgment, entry))
}

/// The same, but it looks only where the entry most likely is. If it returns that there is none, there may be one.
#[inline(always)]
pub fn read_and_touch_likely<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    acknowledgment: u32,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    let key = Key::new(tuple, memory.buckets());
    find_likely(memory, tuple, &key)
        .is_some_and(|found| read_and_touch_found(memory, &found, now, acknowledgment, entry))
}

#[inline(always)]
fn read_and_touch_found<A: Address, M: Memory>(
    memory: M,
    found: &Found<M>,
    now: Ticks,
    acknowledgment: u32,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    if !read_found(memory, found, now, entry) {
        return false;
    }
    let is_new_tick = entry.last_seen != now;
    if entry.moves_expected(acknowledgment, is_new_tick) {
        replace_expected::<A, M>(memory, found.at.contents(), acknowledgment);
        entry.expected = acknowledgment;
    }
    if is_new_tick {
        // If another CPU has changed the header meanwhile, it was seen, too.
        found.at.replace(memory, found.header, found.header.touched(Stamp::of_ticks(now)));
        entry.last_seen = now;
    }
    true
}

/// Reads the entry of `tuple` into `entry`, and returns whether there is one.
#[inline(always)]
pub fn read<A: Address, M: Steps<A>>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    find(memory, tuple).is_some_and(|found| read_found(memory, &found, now, entry))
}

/// Whether `tuple` has an entry.
#[inline(always)]
pub fn exists<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>) -> bool {
    find(memory, tuple).is_some()
}

/// Whether `tuple` has an entry that is the other one of the flow that has one under `other`.
#[inline(always)]
pub fn has_mapping<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
    find(memory, tuple).is_some_and(|found| {
        contents::is_rewritten_to(memory, found.at.contents(), &other.reversed())
            && found.at.header(memory).is_same_entry(found.header)
    })
}

#[inline(always)]
fn read_found<A: Address, M: Memory>(
    memory: M,
    found: &Found<M>,
    now: Ticks,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    contents::read(memory, found.at.contents(), found.header, now, entry);
    found.at.header(memory).is_same_entry(found.header)
}

#[inline(always)]
fn replace_expected<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    expected: u32,
) {
    let word = memory.word(bucket, way, at::<A>(expected_word::<A>()));
    let new = word & !u64::from(u32::MAX) | u64::from(expected);
    memory.replace_word(bucket, way, at::<A>(expected_word::<A>()), word, new);
}

/// Changes what packets of `tuple` are expected to carry, if it has an entry.
#[inline(always)]
pub fn set_expected<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>, expected: u32) {
    if let Some(found) = find(memory, tuple) {
        replace_expected::<A, M>(memory, found.at.contents(), expected);
    }
}

/// Changes what `before` and `after` differ in, if `tuple` has an entry.
#[inline(always)]
pub fn set_state<A: Address, M: Steps<A>>(
    memory: M,
    tuple: &Tuple<A>,
    before: State,
    after: State,
) {
    let Some(found) = find(memory, tuple) else { return };
    change(memory, &found, |header| header.with_change(before, after));
}

/// Removes the entry of `tuple`, if there is one.
#[inline(always)]
pub fn remove<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>) {
    let Some(found) = find(memory, tuple) else { return };
    change(memory, &found, Header::emptied);
}

/// Removes the entry of `tuple` if it is as `read` has it: neither seen since nor changed. For user space.
pub fn remove_unchanged<A: Address, M: Steps<A>>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    read: &ConntrackEntry<A>,
) -> Removed {
    let Some(found) = find(memory, tuple) else { return Removed::Before };
    let is_unchanged = found.header.seen().tick(now) == read.last_seen
        && found.header.state() == read.state
        && found.at.replace(memory, found.header, found.header.emptied());
    if is_unchanged { Removed::Now } else { Removed::Not }
}

/// What [`remove_unchanged`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// The entry as it was read; it is gone.
    Now,
    /// No entry.
    Before,
    /// An entry that has changed, which stays.
    Not,
}

/// Changes the header of an entry, again if another CPU has changed it meanwhile, until it is another's.
#[inline(always)]
fn change<M: Memory>(memory: M, found: &Found<M>, to: impl Fn(Header) -> Header) {
    let mut header = found.header;
    for _ in 0..ATTEMPTS {
        if found.at.replace(memory, header, to(header)) {
            return;
        }
        header = found.at.header(memory);
        if !header.is_same_entry(found.header) {
            return;
        }
    }
}

/// Calls `visit` with every entry; it may change the table. `now` is asked at each, as this may take seconds. For
/// user space.
///
/// # Errors
/// That of `visit`.
pub fn for_each<A: Address, M: Memory, E>(
    memory: M,
    now: impl Fn() -> Ticks,
    mut visit: impl FnMut(Tuple<A>, ConntrackEntry<A>) -> Result<(), E>,
) -> Result<(), E> {
    for index in 0..memory.buckets() {
        let Some(bucket) = memory.bucket(index) else { return Ok(()) };
        for way in 0..WAYS {
            let at: Position<M> = Position { bucket, way, place: index * WAYS + way };
            let header = at.header(memory);
            if !header.is_live() {
                continue;
            }
            let found = Found { at, header };
            let mut entry = ConntrackEntry::empty();
            let tuple = contents::tuple(memory, at.contents(), header);
            if read_found(memory, &found, now(), &mut entry) {
                visit(tuple, entry)?;
            }
        }
    }
    Ok(())
}
