//! The insertion of an entry: a place is claimed, written and published.

use super::backing::{Memory, WAYS};
use super::contents;
use super::find::{Key, Position, locate, lowest, matching};
use super::header::{Header, Pattern};
use super::stamp::Stamp;
use crate::address::{Address, Tuple};
use crate::conntrack::ConntrackEntry;

/// Free places of the first bucket that are few.
const FEW: u32 = 3;

/// Attempts to claim a place, where others do the same.
const ATTEMPTS: u32 = 3;

/// How often a CPU that gives up looks whether the other one has written the entry, which its caller wants to see.
/// Mostly it has by then; if an interrupt came between, it has not.
const PATIENCE: u32 = 4;

/// No place.
const NONE: u32 = u32::MAX;

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
    for _ in 0..PATIENCE {
        if !is_written(memory, first, hash) && !is_written(memory, second, hash) {
            break;
        }
    }
    Err(NotInserted::Exists)
}

/// Whether an entry with this hash is being written in this bucket. A function of its own in the kernel, as
/// [`search`](super::find) is.
#[inline(never)]
fn is_written<M: Memory>(memory: M, index: u32, hash: u32) -> bool {
    let busy = Pattern::busy(hash);
    memory.bucket(index).is_some_and(|bucket| matching(memory, bucket, busy) != 0)
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
    let most =
        if of_second >> COUNT_SHIFT > of_first >> COUNT_SHIFT { of_second } else { of_first };
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
