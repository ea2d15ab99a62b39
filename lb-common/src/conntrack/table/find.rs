//! Where the entry of a tuple is.

use super::backing::{Memory, WAYS};
use super::contents::holds;
use super::header::{Header, Pattern, VERSION_BITS};
use crate::address::{Address, Protocol, Tuple};
use crate::hash;

/// Where the entry of a tuple may be.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub buckets: [u32; 2],
    pub hash: u32,
    pub pattern: Pattern,
}

impl Key {
    #[inline(always)]
    pub fn new<A: Address>(tuple: &Tuple<A>, buckets: u32) -> Self {
        let hash = hash::tuple_wide(tuple);
        let (high, low) = ((hash >> 32) as u32, hash as u32);
        let buckets = [hash::reduce(high, buckets), hash::reduce(low, buckets)];
        // The upper bits of both halves name the buckets.
        Self { buckets, hash: high ^ low, pattern: Pattern::live(low as u8, tuple.protocol) }
    }
}

/// A place in a bucket.
pub(super) struct Position<M: Memory> {
    pub bucket: M::Bucket,
    pub way: u32,
    /// Its number in the table.
    pub place: u32,
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
    pub fn new(memory: M, bucket: u32, way: u32) -> Option<Self> {
        let place = bucket * WAYS + way;
        Some(Self { bucket: memory.bucket(bucket)?, way, place })
    }

    /// Where its contents are.
    #[inline(always)]
    pub const fn contents(self) -> (M::Bucket, u32) {
        (self.bucket, self.way)
    }

    #[inline(always)]
    pub fn header(self, memory: M) -> Header {
        Header(memory.header(self.bucket, self.way))
    }

    /// Replaces the header `current`; returns whether it still was that.
    #[inline(always)]
    pub fn replace(self, memory: M, current: Header, new: Header) -> bool {
        memory.compare_exchange(self.bucket, self.way, current.0, new.0) == current.0
    }
}

/// A bit for each place of a bucket whose header is as `pattern` says.
#[inline(always)]
pub(super) fn matching<M: Memory>(memory: M, bucket: M::Bucket, pattern: Pattern) -> u64 {
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
pub(super) const fn lowest(bits: u64) -> u32 {
    const NUMBERS: u64 = 0x5637_4210;
    let alone = bits & bits.wrapping_neg();
    let index = (alone.wrapping_mul(0x17) >> 5) & 7;
    (NUMBERS >> (index * 4)) as u32 & 7
}

/// An entry that was found: where it is, and its header then.
pub(super) struct Found<M: Memory> {
    pub at: Position<M>,
    pub header: Header,
}

/// Where the entry of `tuple` is: see [`search`].
#[inline(always)]
pub(super) fn locate<A: Address, M: Memory>(
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
pub(super) fn find<A: Address, M: Memory>(memory: M, tuple: &Tuple<A>) -> Option<Found<M>> {
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
