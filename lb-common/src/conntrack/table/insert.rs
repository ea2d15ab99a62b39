//! The insertion of an entry: a place is claimed, written and published.

use super::backing::{Memory, WAYS};
use super::contents;
use super::find::{Key, locate};
use super::header::{Header, VERSION_BITS};
use super::position::Position;
use super::stamp::Stamp;
use super::steps::{COUNT_SHIFT, EMPTY_END, NONE, Steps, is_over};
use crate::address::{Address, Tuple};
use crate::conntrack::ConntrackEntry;

/// Free places of the first bucket that are few.
const FEW: u32 = 3;

/// Attempts to claim a place, where others do the same.
const ATTEMPTS: u32 = 8;

/// How often a CPU that gives up looks whether the other one has written the entry, which its caller wants to see.
/// Mostly it has by then; if an interrupt came between, it has not.
const PATIENCE: u32 = 4;

/// What is done with a new entry for which no place is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// It takes the place of the one of both buckets that has not been seen for the longest time.
    Evict,
    /// It takes the place of one whose flow is over and expired; else it is refused. An agent has removed such flows
    /// before, if one runs.
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
pub fn insert<A: Address, M: Steps<A>>(
    memory: M,
    tuple: &Tuple<A>,
    entry: &ConntrackEntry<A>,
    stamp: Stamp,
    when_full: WhenFull,
) -> Result<(), NotInserted> {
    let key = Key::new(tuple, memory.buckets());
    if locate(memory, tuple, &key) != 0 {
        return Err(NotInserted::Exists);
    }
    let Key { buckets: [first, second], hash, pattern, way } = key;
    // One number to keep in place of two, as the BPF stack is small.
    let likely = first * WAYS + way;
    let (mut number, mut claimed) = (NONE, Header(0));
    for _ in 0..ATTEMPTS {
        let likely = M::opaque(likely.into()) as u32;
        let choice = choose::<A, M>(memory, likely, second, stamp, when_full);
        if choice.number == NONE {
            break;
        }
        number = choice.number;
        claimed = claim(memory, &choice, hash, stamp);
        if !claimed.is_empty() {
            break;
        }
    }
    if claimed.is_empty() {
        return Err(NotInserted::Full);
    }
    let first = M::opaque(likely.into()) as u32 / WAYS;
    let full = NotInserted::Full;
    let at = Position::new(memory, number / WAYS, number % WAYS).ok_or(full)?;
    if memory.is_first(first, hash, number)
        && memory.is_first(second, hash, number)
        && locate(memory, tuple, &key) == 0
    {
        contents::write(memory, at.contents(), tuple, entry);
        let header = claimed.published(pattern, entry.flags, entry.state, stamp);
        if at.replace(memory, claimed, header) {
            return Ok(());
        }
    }
    memory.set_header(at.bucket, at.way, claimed.emptied().0);
    for _ in 0..PATIENCE {
        if !memory.is_written(first, hash) && !memory.is_written(second, hash) {
            break;
        }
    }
    Err(NotInserted::Exists)
}

/// A place for a new entry.
struct Choice {
    /// Its number; [`NONE`] if there is no place.
    number: u32,
    /// What it held when it was chosen: [`NOTHING`], an entry of a flow that is [`OVER`], or the version of one that is
    /// evicted. It is claimed only if it still does: another CPU may have put a new entry there. One number, as the BPF
    /// stack is small.
    held: u32,
}

/// Above all versions.
const NOTHING: u32 = 1 << VERSION_BITS;
const OVER: u32 = NOTHING + 1;

/// Claims a place, for an entry with this hash; returns its header then, which is that of an empty place if it could
/// not be claimed.
#[inline(always)]
fn claim<M: Memory>(memory: M, choice: &Choice, hash: u32, now: Stamp) -> Header {
    let failed = Header(0);
    let Choice { number, held } = *choice;
    let Some(at) = Position::new(memory, number / WAYS, number % WAYS) else { return failed };
    let header = at.header(memory);
    let may_claim = match held {
        NOTHING => header.is_empty(),
        OVER => is_over(header, now),
        version => header.is_live() && u32::from(header.version()) == version,
    };
    let claimed = header.claimed(hash);
    if may_claim && at.replace(memory, header, claimed) { claimed } else { failed }
}

/// A place for a new entry, most likely this one. Of the two buckets the first one, where look-ups begin, unless it has few places left and
/// the second has more.
#[inline(always)]
fn choose<A: Address, M: Steps<A>>(
    memory: M,
    likely: u32,
    second: u32,
    stamp: Stamp,
    when_full: WhenFull,
) -> Choice {
    let (first, way) = (likely / WAYS, likely % WAYS);
    if when_full == WhenFull::Evict {
        return choose_oldest::<A, M>(memory, likely, second, stamp);
    }
    let of_first = memory.free(first, way);
    let most = if of_first >> COUNT_SHIFT > FEW {
        of_first
    } else {
        let of_second = memory.free(second, way);
        if of_second >> COUNT_SHIFT > of_first >> COUNT_SHIFT { of_second } else { of_first }
    };
    if most >> COUNT_SHIFT != 0 {
        return Choice { number: most & ((1 << COUNT_SHIFT) - 1), held: NOTHING };
    }
    let number = match memory.over(first, stamp) {
        NONE => memory.over(second, stamp),
        number => number,
    };
    Choice { number, held: OVER }
}

/// The place of an entry that has not been seen for the longest time, or one that is free: then there is no need to
/// look further. There is none if entries are being written in all.
#[inline(always)]
fn choose_oldest<A: Address, M: Steps<A>>(
    memory: M,
    likely: u32,
    second: u32,
    stamp: Stamp,
) -> Choice {
    let first = likely / WAYS;
    if is_free(memory, likely) {
        return Choice { number: likely, held: NOTHING };
    }
    let of_first = memory.oldest(first, stamp);
    let is_empty = of_first < EMPTY_END;
    let of_second = if is_empty { u64::MAX } else { memory.oldest(second, stamp) };
    let (rank, index) = if of_second < of_first { (of_second, second) } else { (of_first, first) };
    if rank == u64::MAX {
        return Choice { number: NONE, held: NOTHING };
    }
    let number = index * WAYS + (rank >> VERSION_BITS) as u32 % WAYS;
    let held = if rank < EMPTY_END { NOTHING } else { rank as u32 % NOTHING };
    Choice { number, held }
}

/// Whether this place holds nothing.
#[inline(always)]
fn is_free<M: Memory>(memory: M, number: u32) -> bool {
    let at = Position::new(memory, number / WAYS, number % WAYS);
    at.is_some_and(|at| at.header(memory).is_empty())
}
