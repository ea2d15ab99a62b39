//! What goes through the places of one bucket. In the kernel each of these steps is a function of its own, which
//! the verifier looks at once, by itself, whoever calls it: they return a number.

use super::backing::{Memory, WAYS};
use super::contents::holds;
use super::header::{Header, Pattern, VERSION_BITS};
use super::position::Position;
use super::stamp::Stamp;
use crate::address::{Address, Protocol, Tuple};
use crate::conntrack::State;

/// The memory of a table of one family's entries, and how its buckets are gone through: as the functions of the same
/// names do, unless a memory has its own way to call them.
pub trait Steps<A: Address>: Memory {
    /// See [`search`].
    #[inline(always)]
    fn search(self, index: u32, tuple: &Tuple<A>, pattern: u64) -> u64 {
        search(self, index, tuple, pattern)
    }

    /// See [`search_all`].
    #[inline(always)]
    fn search_all(self, index: u32, tuple: &Tuple<A>, pattern: u64) -> u64 {
        search_all(self, index, tuple, pattern)
    }

    /// See [`free`].
    #[inline(always)]
    fn free(self, index: u32, likely: u32) -> u32 {
        free(self, index, likely)
    }

    /// See [`oldest`].
    #[inline(always)]
    fn oldest(self, index: u32, now: Stamp) -> u64 {
        oldest(self, index, now)
    }

    /// See [`over`].
    #[inline(always)]
    fn over(self, index: u32, now: Stamp) -> u32 {
        over(self, index, now)
    }

    /// See [`is_first`].
    #[inline(always)]
    fn is_first(self, index: u32, hash: u32, own: u32) -> bool {
        is_first(self, index, hash, own)
    }

    /// See [`is_written`].
    #[inline(always)]
    fn is_written(self, index: u32, hash: u32) -> bool {
        is_written(self, index, hash)
    }
}

/// No place.
pub(super) const NONE: u32 = u32::MAX;

/// Where in the result of [`free`] the count begins.
pub(super) const COUNT_SHIFT: u32 = 28;

/// The results of [`oldest`] of a place that holds nothing are below.
pub(super) const EMPTY_END: u64 = (WAYS as u64) << VERSION_BITS;

/// After so much time without a packet (100 ms) a UDP flow that has had its answer is most likely over.
const PAUSE: u32 = 6;

/// By how much such a flow then counts as older than it is: resolvers wait 5 s for an answer. So questions that one
/// server answers at once do not cost those that another one answers slowly.
const SOONER: u32 = Stamp::of_seconds(8);

/// More than the age of any entry.
const YOUNGEST: u32 = Stamp::MASK + SOONER + 1;

/// Where the entry of `tuple` is in a bucket: the number of its place plus one, above its version; 0 if there is none.
/// `pattern` has the bits of [`Pattern::live`].
#[inline(always)]
pub fn search<A: Address, M: Steps<A>>(
    memory: M,
    index: u32,
    tuple: &Tuple<A>,
    pattern: u64,
) -> u64 {
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let way = first(memory, bucket, key(pattern), WAYS);
    if way == WAYS {
        return 0;
    }
    match located(memory, (bucket, index, way), tuple, pattern) {
        // Once in 32 look-ups in a full bucket, another entry has the same bits of its hash.
        0 => memory.search_all(index, tuple, pattern),
        located => located,
    }
}

/// The same, of all places whose headers match, not only the first.
#[inline(always)]
pub fn search_all<A: Address, M: Memory>(
    memory: M,
    index: u32,
    tuple: &Tuple<A>,
    pattern: u64,
) -> u64 {
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let mut matches = matching(memory, bucket, key(pattern));
    for _ in 0..WAYS {
        if matches == 0 {
            break;
        }
        let way = lowest(matches);
        matches &= matches - 1;
        let located = located(memory, (bucket, index, way), tuple, pattern);
        if located != 0 {
            return located;
        }
    }
    0
}

/// The pattern of live entries with these bits.
#[inline(always)]
const fn key(bits: u64) -> Pattern {
    Pattern { mask: Pattern::live(0, Protocol::TCP).mask, bits }
}

/// Where the entry of `tuple` is, if this way has it: see [`search`].
#[inline(always)]
fn located<A: Address, M: Memory>(
    memory: M,
    (bucket, index, way): (M::Bucket, u32, u32),
    tuple: &Tuple<A>,
    pattern: u64,
) -> u64 {
    let header = Header(memory.header(bucket, way));
    if header.is(key(pattern)) && holds(memory, (bucket, way), tuple) {
        let place = index * WAYS + way % WAYS;
        (u64::from(place) + 1) << VERSION_BITS | u64::from(header.version())
    } else {
        0
    }
}

/// The number of a place of this bucket that holds nothing, `likely` or one of the next, below how many such places
/// it has, of which there are at most 8.
#[inline(always)]
pub fn free<M: Memory>(memory: M, index: u32, likely: u32) -> u32 {
    let Some(bucket) = memory.bucket(index) else { return 0 };
    let free = matching(memory, bucket, Pattern::EMPTY);
    let likely = likely % WAYS;
    let way = (lowest((free << WAYS | free) >> likely) + likely) % WAYS;
    (free.count_ones() << COUNT_SHIFT) | (index * WAYS + way)
}

/// The way of this bucket's place that holds nothing; else that of the entry that has not been seen for the longest
/// time, below a number that is the smaller the longer that is. Above the version of that place; [`u64::MAX`] if
/// entries are being written in all.
#[inline(always)]
pub fn oldest<M: Memory>(memory: M, index: u32, now: Stamp) -> u64 {
    let Some(bucket) = memory.bucket(index) else { return u64::MAX };
    let empty = first(memory, bucket, Pattern::EMPTY, WAYS);
    if empty != WAYS {
        return u64::from(empty % WAYS) << VERSION_BITS;
    }
    let older = |oldest: u64, way: u32| {
        let header = Header(memory.header(bucket, way));
        if !header.is_live() {
            return oldest;
        }
        let age = header.seen().age(now);
        let is_over = header.is(Pattern::ANSWERED) && age >= PAUSE;
        let age = if is_over { age + SOONER } else { age };
        // At least one: only what is empty counts as zero.
        let youth = u64::from(YOUNGEST - age);
        let rank = (youth << 3 | u64::from(way)) << VERSION_BITS | u64::from(header.version());
        if rank < oldest { rank } else { oldest }
    };
    // Written out: of a loop the compiler makes one that takes twice as long.
    let of_lower = older(older(older(older(u64::MAX, 0), 1), 2), 3);
    older(older(older(older(of_lower, 4), 5), 6), 7)
}

/// The number of a place of this bucket whose entry [`is_over`]; [`NONE`] if there is none.
#[inline(always)]
pub fn over<M: Memory>(memory: M, index: u32, now: Stamp) -> u32 {
    let Some(bucket) = memory.bucket(index) else { return NONE };
    for way in 0..WAYS {
        if is_over(Header(memory.header(bucket, way)), now) {
            return index * WAYS + way;
        }
    }
    NONE
}

/// Whether a place's flow is over, and had no packet for so long that it is expired. Its other entry says so, too.
#[inline(always)]
pub(super) fn is_over(header: Header, now: Stamp) -> bool {
    const CLOSED: State = State::FIN_CLIENT.with(State::FIN_BACKEND);
    const LONG: u32 = Stamp::of_seconds(CLOSED.timeout_seconds(Protocol::TCP) + 2);
    header.is_live() && header.state().is_over() && header.seen().age(now) > LONG
}

/// Whether the claim of place `own` stands: no other place of this bucket in which an entry with its hash is being
/// written comes first. Claims of those that come later are taken away.
#[inline(always)]
pub fn is_first<M: Memory>(memory: M, index: u32, hash: u32, own: u32) -> bool {
    let busy = Pattern::busy(hash);
    let Some(bucket) = memory.bucket(index) else { return false };
    if first(memory, bucket, busy, own.wrapping_sub(index * WAYS)) == WAYS {
        return true;
    }
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

/// Whether an entry with this hash is being written in this bucket.
#[inline(always)]
pub fn is_written<M: Memory>(memory: M, index: u32, hash: u32) -> bool {
    let busy = Pattern::busy(hash);
    memory.bucket(index).is_some_and(|bucket| first(memory, bucket, busy, WAYS) != WAYS)
}

/// The first way but `except` whose header is as `pattern` says; [`WAYS`] if none is.
#[inline(always)]
fn first<M: Memory>(memory: M, bucket: M::Bucket, pattern: Pattern, except: u32) -> u32 {
    for way in 0..WAYS {
        let header = memory.header(bucket, way);
        if header & pattern.mask == pattern.bits && way != except {
            // Of eight known numbers one that is not: or the verifier would walk what follows eight times.
            return way.wrapping_add((M::opaque(header) ^ header) as u32);
        }
    }
    WAYS
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
