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
//! Two of different tuples may have the same hash of 32 bits; then one of the two is told that it exists,
//! though it does not, and its sender sends again.
//!
//! This needs atomic loads and stores of 64 bits, a compare-and-swap that is a full barrier, and that loads are
//! not reordered with loads, nor stores with stores, as on x86-64.

mod contents;
mod header;
#[cfg(target_has_atomic = "64")]
mod slices;
#[cfg(test)]
mod tests;

pub use self::contents::{Stored, words};
use self::contents::{expected_word, holds};
use self::header::VERSION_BITS;
pub use self::header::{Header, Pattern, Phase, Stamp};
#[cfg(target_has_atomic = "64")]
pub use self::slices::Slices;
use super::{ConntrackEntry, State, Ticks};
use crate::address::{Address, Protocol, Tuple};
use crate::hash;

/// Places in a bucket; their headers fill a cache line of 64 bytes.
pub const WAYS: u32 = 8;

/// Free places of the first bucket that are few.
const FEW: u32 = 3;

/// Attempts to claim a place, or to change a header, where others do the same.
const ATTEMPTS: u32 = 4;

/// No place.
const NONE: u32 = u32::MAX;

/// The memory of a table.
pub trait Memory: Copy {
    /// A bucket: the headers of its places, and then their contents.
    type Bucket: Copy;

    /// How many buckets there are.
    fn buckets(&self) -> u32;
    /// A bucket; `None` beyond the last one.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// Reads a header; `way` is below [`WAYS`].
    fn header(&self, bucket: Self::Bucket, way: u32) -> u64;
    /// Replaces a header if it is `current`; returns what it was.
    fn compare_exchange(&self, bucket: Self::Bucket, way: u32, current: u64, new: u64) -> u64;
    /// Writes the header of a place that the caller has claimed.
    fn set_header(&self, bucket: Self::Bucket, way: u32, header: u64);
    /// Reads a word of the contents of a place.
    fn word(&self, bucket: Self::Bucket, way: u32, index: usize) -> u64;
    /// Writes a word of the contents of a place.
    fn set_word(&self, bucket: Self::Bucket, way: u32, index: usize, word: u64);
    /// Replaces a word of the contents of a place if it is `current`.
    fn replace_word(&self, bucket: Self::Bucket, way: u32, index: usize, current: u64, new: u64);
    /// The same number, of which the compiler knows nothing: it makes no branch of arithmetic with it.
    #[inline(always)]
    fn opaque(number: u64) -> u64 {
        number
    }
}

/// What is done with a new entry for which no place is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// It takes the place of the one of both buckets that has not been seen for the longest time.
    Evict,
    /// It is refused.
    Refuse,
}

/// Why an entry was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotInserted {
    /// There is one of this tuple, or another CPU is just inserting it.
    Exists,
    /// No place is free.
    Full,
}

/// Where the entry of a tuple may be.
#[derive(Clone, Copy)]
struct Key {
    buckets: [u32; 2],
    hash: u32,
    pattern: Pattern,
}

impl Key {
    #[inline(always)]
    fn new<A: Address>(tuple: &Tuple<A>, buckets: u32) -> Self {
        let hash = hash::tuple_wide(tuple);
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        let buckets = [hash::reduce(high, buckets), hash::reduce(low, buckets)];
        // The upper bits of both halves name the buckets.
        Self { buckets, hash: high ^ low, pattern: Pattern::live(low as u8, tuple.protocol) }
    }
}

/// A place in a bucket.
struct Position<M: Memory> {
    bucket: M::Bucket,
    way: u32,
    place: u32,
}

impl<M: Memory> Clone for Position<M> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Memory> Copy for Position<M> {}

impl<M: Memory> Position<M> {
    #[inline(always)]
    fn new(memory: M, bucket: u32, way: u32) -> Option<Self> {
        let place = bucket * WAYS + way;
        Some(Self { bucket: memory.bucket(bucket)?, way, place })
    }

    /// Where its contents are.
    #[inline(always)]
    const fn contents(self) -> (M::Bucket, u32) {
        (self.bucket, self.way)
    }

    #[inline(always)]
    fn header(self, memory: M) -> Header {
        Header(memory.header(self.bucket, self.way))
    }

    /// Replaces the header `current`; returns whether it still was that.
    #[inline(always)]
    fn replace(self, memory: M, current: Header, new: Header) -> bool {
        memory.compare_exchange(self.bucket, self.way, current.0, new.0) == current.0
    }
}

/// A bit for each place of a bucket whose header is as `pattern` says.
#[inline(always)]
fn matching<M: Memory>(memory: M, bucket: M::Bucket, pattern: Pattern) -> u64 {
    let mut bits = 0;
    for way in 0..WAYS {
        let difference = memory.header(bucket, way) & pattern.mask ^ pattern.bits;
        // Zero alone is turned into a number with the highest bit set, as no pattern has that bit.
        bits |= (M::opaque(difference).wrapping_sub(1) >> 63) << way;
    }
    bits
}

/// The number of the lowest of eight bits, one of which is set: multiplied by a de Bruijn sequence, each bit
/// alone leaves a number of its own in the upper three.
#[inline(always)]
const fn lowest(bits: u64) -> u32 {
    const NUMBERS: u64 = 0x5637_4210;
    let alone = bits & bits.wrapping_neg();
    let index = (alone.wrapping_mul(0x17) >> 5) & 7;
    (NUMBERS >> (index * 4)) as u32 & 7
}

/// An entry that was found: where it is, and its header then.
struct Found<M: Memory> {
    at: Position<M>,
    header: Header,
}

/// Where the entry of `tuple` is: see [`search`].
#[inline(always)]
fn locate<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    [first, second]: [u32; 2],
    pattern: u64,
) -> u64 {
    match search(memory, tuple, first, pattern) {
        0 => search(memory, tuple, second, pattern),
        located => located,
    }
}

/// Where the entry of `tuple` is in a bucket: the number of its place plus one, above its version; 0 if there is none.
/// One number, and a function of its own in the kernel: whatever way led to it, the verifier follows what comes
/// after it once.
#[inline(never)]
fn search<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>, index: u32, pattern: u64) -> u64 {
    let pattern = Pattern { mask: Pattern::live(0, Protocol::TCP).mask, bits: pattern };
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let mut matches = matching(memory, bucket, pattern);
    for _ in 0..WAYS {
        if matches == 0 {
            break;
        }
        let way = lowest(matches);
        matches &= matches - 1;
        let header = Header(memory.header(bucket, way));
        let place = index * WAYS + way;
        if header.is(pattern) && holds(memory, (bucket, way), tuple) {
            return (u64::from(place) + 1) << VERSION_BITS | u64::from(header.version());
        }
    }
    0
}

#[inline(always)]
fn find<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>) -> Option<Found<M>> {
    let Key { buckets, pattern, .. } = Key::new(tuple, memory.buckets());
    let located = locate(memory, tuple, buckets, pattern.bits);
    if located == 0 {
        return None;
    }
    let number = (located >> VERSION_BITS) as u32 - 1;
    let at = Position::new(memory, number / WAYS, number % WAYS)?;
    let header = at.header(memory);
    let is_same = header.is_live() && header.version() == located as u8;
    is_same.then_some(Found { at, header })
}

/// Reads the entry of `tuple` into `entry`, and returns whether there is one. If it has not been seen in this
/// tick, it now is; and `acknowledgment` becomes what is expected, where it moves that.
#[inline(always)]
pub fn read_and_touch<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    acknowledgment: u32,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    let Some(found) = find(memory, tuple) else { return false };
    if !read_found(memory, &found, now, entry) {
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
pub fn read<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    entry: &mut ConntrackEntry<A>,
) -> bool {
    find(memory, tuple).is_some_and(|found| read_found(memory, &found, now, entry))
}

/// Whether `tuple` has an entry that is the other one of the flow that has one under `other`.
#[inline(always)]
pub fn has_mapping<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
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
    let word = memory.word(bucket, way, expected_word::<A>());
    let new = word & !u64::from(u32::MAX) | u64::from(expected);
    memory.replace_word(bucket, way, expected_word::<A>(), word, new);
}

/// Changes what packets of `tuple` are expected to carry, if it has an entry.
#[inline(always)]
pub fn set_expected<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>, expected: u32) {
    if let Some(found) = find(memory, tuple) {
        replace_expected::<A, M>(memory, found.at.contents(), expected);
    }
}

/// Changes what `before` and `after` differ in, if `tuple` has an entry.
#[inline(always)]
pub fn set_state<A: Address, M: Memory>(
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
pub fn remove<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>) {
    let Some(found) = find(memory, tuple) else { return };
    change(memory, &found, Header::emptied);
}

/// Removes the entry of `tuple` if it is as `read` has it: neither seen since nor changed. Returns whether it is
/// gone. For user space.
pub fn remove_unchanged<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    now: Ticks,
    read: &ConntrackEntry<A>,
) -> bool {
    let Some(found) = find(memory, tuple) else { return true };
    found.header.seen().tick(now) == read.last_seen
        && found.header.state() == read.state
        && found.at.replace(memory, found.header, found.header.emptied())
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

/// Inserts an entry of `tuple`, which was seen at `stamp`.
///
/// # Errors
/// [`NotInserted`]; the table is unchanged.
#[inline(always)]
pub fn insert<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    entry: &ConntrackEntry<A>,
    stamp: Stamp,
    when_full: WhenFull,
) -> Result<(), NotInserted> {
    let Key { buckets, hash, pattern } = Key::new(tuple, memory.buckets());
    if locate(memory, tuple, buckets, pattern.bits) != 0 {
        return Err(NotInserted::Exists);
    }
    let (mut number, mut claimed, mut attempts) = (NONE, Header(0), 0);
    while claimed.is_empty() {
        number = choose(memory, buckets, stamp, when_full);
        if number == NONE || attempts == ATTEMPTS {
            return Err(NotInserted::Full);
        }
        attempts += 1;
        claimed = claim(memory, number, hash, when_full == WhenFull::Evict);
    }
    let full = NotInserted::Full;
    let at = Position::new(memory, number / WAYS, number % WAYS).ok_or(full)?;
    let [first, second] = buckets;
    if is_first(memory, first, hash, number)
        && is_first(memory, second, hash, number)
        && locate(memory, tuple, buckets, pattern.bits) == 0
    {
        contents::write(memory, at.contents(), tuple, entry);
        let header = claimed.published(pattern, entry.flags, entry.state, stamp);
        if at.replace(memory, claimed, header) {
            return Ok(());
        }
    }
    memory.set_header(at.bucket, at.way, claimed.emptied().0);
    Err(NotInserted::Exists)
}

/// Claims a place, for an entry with this hash; returns its header then, which is that of an empty place if it could
/// not be claimed.
#[inline(always)]
fn claim<M: Memory>(memory: M, number: u32, hash: u32, evicts: bool) -> Header {
    let failed = Header(0);
    let Some(at) = Position::new(memory, number / WAYS, number % WAYS) else { return failed };
    let header = at.header(memory);
    let claimed = header.claimed(hash);
    let may_claim = header.is_empty() || evicts && header.is_live();
    if may_claim && at.replace(memory, header, claimed) { claimed } else { failed }
}

/// The number of a place for a new entry; [`NONE`] if there is none. Of the two buckets the first one, where look-ups
/// begin, unless it has few places left and the second has more.
#[inline(always)]
fn choose<M: Memory>(
    memory: M,
    [first, second]: [u32; 2],
    stamp: Stamp,
    when_full: WhenFull,
) -> u32 {
    let of_first = free(memory, first);
    if of_first >> COUNT_SHIFT > FEW {
        return of_first & NUMBER;
    }
    let of_second = free(memory, second);
    let most = if of_second >> COUNT_SHIFT > of_first >> COUNT_SHIFT { of_second } else { of_first };
    if most >> COUNT_SHIFT != 0 {
        return most & NUMBER;
    }
    if when_full == WhenFull::Refuse {
        return NONE;
    }
    let (of_first, of_second) = (oldest(memory, first, stamp), oldest(memory, second, stamp));
    let (rank, index) = if of_second > of_first { (of_second, second) } else { (of_first, first) };
    if rank == 0 { NONE } else { index * WAYS + rank as u32 % WAYS }
}

/// Where in the result of [`free`] the count begins.
const COUNT_SHIFT: u32 = 28;
const NUMBER: u32 = (1 << COUNT_SHIFT) - 1;

/// The number of a place of this bucket that holds nothing, below how many such places it has, of which there are at
/// most 8. A function of its own in the kernel, as [`search`] is.
#[inline(never)]
fn free<M: Memory>(memory: M, index: u32) -> u32 {
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let free = matching(memory, bucket, Pattern::EMPTY);
    (free.count_ones() << COUNT_SHIFT) | (index * WAYS + lowest(free))
}

/// The way of this bucket's place whose entry has not been seen for the longest time, below that time; 0 if none has
/// one. Without a branch per place: the verifier would follow each way through eight of them. A function of its own
/// in the kernel, as [`search`] is.
#[inline(never)]
fn oldest<M: Memory>(memory: M, index: u32, now: Stamp) -> u64 {
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let mut oldest = 0_u64;
    for way in 0..WAYS {
        let header = Header(memory.header(bucket, way));
        let is_live = M::opaque((header.0 & Pattern::LIVE.mask) ^ Pattern::LIVE.bits);
        // One seen just now counts one, so that there is always one.
        let age = u64::from(now.0.wrapping_sub(header.seen().0) & Stamp::MASK) + 1;
        let rank = (age << 3 | u64::from(way)) * (is_live.wrapping_sub(1) >> 63);
        let is_older = M::opaque(oldest.wrapping_sub(rank) >> 63);
        oldest ^= (oldest ^ rank) & is_older.wrapping_neg();
    }
    oldest
}

/// Whether the claim of place `own` stands: no other place of this bucket in which an entry with its hash is being
/// written comes first. Claims of those that come later are taken away. A function of its own in the kernel, as
/// [`search`] is.
#[inline(never)]
fn is_first<M: Memory>(memory: M, index: u32, hash: u32, own: u32) -> bool {
    let busy = Pattern::busy(hash);
    let Some(bucket) = memory.bucket(index) else { return false };
    let mut rivals = matching(memory, bucket, busy);
    for _ in 0..WAYS {
        if rivals == 0 {
            break;
        }
        let way = lowest(rivals);
        rivals &= rivals - 1;
        let at: Position<M> = Position { bucket, way, place: index * WAYS + way };
        let header = at.header(memory);
        // One that is no rival any more is an entry by now, or given up.
        if at.place == own || !header.is(busy) {
            continue;
        }
        if at.place < own {
            return false;
        }
        at.replace(memory, header, header.aborted());
    }
    true
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
