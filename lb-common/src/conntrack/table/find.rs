//! Where the entry of a tuple is.

use super::backing::{Memory, WAYS};
use super::contents::holds;
use super::header::{Header, Pattern, VERSION_BITS};
use super::position::Position;
use super::steps::Steps;
use crate::address::{Address, Tuple};
use crate::hash;

/// Where the entry of a tuple may be.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub buckets: [u32; 2],
    /// The way of either bucket in which it most likely is: it is put there unless another entry is. So most look-ups
    /// read one header, and the processor reads the contents without waiting for it.
    pub way: u32,
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
        let pattern = Pattern::live(low as u8, tuple.protocol);
        Self { buckets, way: high % WAYS, hash: high ^ low, pattern }
    }
}

/// An entry that was found: where it is, and its header then.
pub(super) struct Found<M: Memory> {
    pub at: Position<M>,
    pub header: Header,
}

/// The entry of `tuple`, if it is where it most likely is.
#[inline(always)]
pub(super) fn find_likely<A: Address, M: Memory>(
    memory: M,
    tuple: &Tuple<A>,
    key: &Key,
) -> Option<Found<M>> {
    let at = Position::new(memory, key.buckets[0], key.way)?;
    let header = at.header(memory);
    let is_it = header.is(key.pattern) && holds(memory, at.contents(), tuple);
    is_it.then_some(Found { at, header })
}

/// Where the entry of `tuple` is: see [`Steps::search`].
#[inline(always)]
pub(super) fn locate<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>, key: &Key) -> u64 {
    let Key { buckets: [first, second], pattern, .. } = *key;
    match memory.search(first, tuple, pattern.bits) {
        0 => memory.search(second, tuple, pattern.bits),
        located => located,
    }
}

/// The entry of `tuple`. While the table is resized, it is in the one of the old size or in the one of the new size.
#[inline(always)]
pub(super) fn find<A: Address, M: Steps<A>>(memory: M, tuple: &Tuple<A>) -> Option<Found<M>> {
    let in_old = match memory.old() {
        Some(old) => (locate(old, tuple, &Key::new(tuple, old.buckets())), old),
        None => (0, memory),
    };
    let (located, memory) = if in_old.0 == 0 {
        (locate(memory, tuple, &Key::new(tuple, memory.buckets())), memory)
    } else {
        in_old
    };
    if located == 0 {
        return None;
    }
    let number = (located >> VERSION_BITS) as u32 - 1;
    let at = Position::new(memory, number / WAYS, number % WAYS)?;
    let header = at.header(memory);
    let is_same = header.is_live() && header.version() == located as u8;
    is_same.then_some(Found { at, header })
}
