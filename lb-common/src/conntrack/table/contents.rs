//! The contents of a place: a tuple, and what is remembered under it, in words of 64 bits.
//!
//! IPv4, 32 bytes: both addresses; both ports and both rewritten ports; both rewritten addresses; what is
//! expected and the backend. IPv6, 80 bytes, in the same order. Of the backend's id 20 bits are kept, of its
//! generation 12.

use super::backing::{Memory, WAYS};
use super::header::Header;
use crate::address::{Address, Family, Port, Tuple, V4, V6};
use crate::backend::BackendId;
use crate::conntrack::{ConntrackEntry, Ticks};

/// Bits of a backend's id in a table.
pub(super) const BACKEND_BITS: u32 = BackendId::BITS;

/// A family's addresses, as a table keeps them.
pub trait Stored: Address {
    /// A bucket: [`WAYS`] headers, then the contents of as many places.
    type Bucket: Copy;
}

impl Stored for V4 {
    type Bucket = [u64; WAYS as usize * (1 + words::<Self>())];
}

impl Stored for V6 {
    type Bucket = [u64; WAYS as usize * (1 + words::<Self>())];
}

/// Words of the contents of a place.
#[must_use]
pub const fn words<A: Address>() -> usize {
    2 * address_words::<A>() + 2 + OTHER_LAYOUT as usize
}

/// Whether this build has the layout of the tests of another one: a word more, and all in the reverse order.
const OTHER_LAYOUT: bool = cfg!(feature = "other-layout");

/// Where a word of the contents is.
#[inline(always)]
pub(super) const fn at<A: Address>(word: usize) -> usize {
    if OTHER_LAYOUT { words::<A>() - 1 - word } else { word }
}

/// Words of a family's two addresses.
#[inline(always)]
pub(super) const fn address_words<A: Address>() -> usize {
    match A::FAMILY {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// Word `index` of two addresses.
#[inline(always)]
fn addresses<A: Address>(source: &A, destination: &A, index: usize) -> u64 {
    let (from, to) = (source.words(), destination.words());
    match (A::FAMILY, index) {
        (Family::V4, _) => pair(from[0], to[0]),
        (Family::V6, 0) => pair(from[0], from[1]),
        (Family::V6, 1) => pair(from[2], from[3]),
        (Family::V6, 2) => pair(to[0], to[1]),
        (Family::V6, _) => pair(to[2], to[3]),
    }
}

/// Both ports in one number.
#[inline(always)]
const fn ports<A: Address>(tuple: &Tuple<A>) -> u32 {
    u32::from_ne_bytes(tuple.ports().0)
}

/// Whether a place holds an entry of `tuple`, given that its header says so of the protocol.
#[inline(always)]
pub(super) fn holds<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    tuple: &Tuple<A>,
) -> bool {
    for index in 0..address_words::<A>() {
        let word = addresses(&tuple.source, &tuple.destination, index);
        if memory.word(bucket, way, at::<A>(index)) != word {
            return false;
        }
    }
    memory.word(bucket, way, at::<A>(address_words::<A>())) as u32 == ports(tuple)
}

/// Whether packets of a place's entry leave with `tuple`'s addresses and ports.
#[inline(always)]
pub(super) fn is_rewritten_to<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    tuple: &Tuple<A>,
) -> bool {
    let count = address_words::<A>();
    let mut differences = 0;
    for index in 0..count {
        differences |= memory.word(bucket, way, at::<A>(count + 1 + index))
            ^ addresses(&tuple.source, &tuple.destination, index);
    }
    differences |= memory.word(bucket, way, at::<A>(count)) >> 32 ^ u64::from(ports(tuple));
    differences == 0
}

/// The word in which a place has what is expected, in its lower half.
pub(super) const fn expected_word<A: Address>() -> usize {
    2 * address_words::<A>() + 1
}

/// Reads what is remembered under `tuple` into `entry`; `header` is the place's, `now` the present tick.
#[inline(always)]
pub(super) fn read<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    header: Header,
    now: Ticks,
    entry: &mut ConntrackEntry<A>,
) {
    let count = address_words::<A>();
    let both_ports = memory.word(bucket, way, at::<A>(count));
    let mut words = [0; 4];
    for (index, word) in words.iter_mut().take(count).enumerate() {
        *word = memory.word(bucket, way, at::<A>(count + 1 + index));
    }
    let last = memory.word(bucket, way, at::<A>(expected_word::<A>()));
    set_addresses(&mut entry.rewritten, &words);
    let [a, b, c, d] = ((both_ports >> 32) as u32).to_ne_bytes();
    entry.rewritten.source_port = Port([a, b]);
    entry.rewritten.destination_port = Port([c, d]);
    entry.rewritten.protocol = header.protocol();
    entry.expected = last as u32;
    let backend = (last >> 32) as u32;
    entry.backend = BackendId(backend & ((1 << BACKEND_BITS) - 1));
    entry.generation = backend >> BACKEND_BITS;
    entry.last_seen = header.seen().tick(now);
    entry.state = header.state();
    entry.flags = header.flags();
}

/// The tuple of the entry in a place.
#[inline(always)]
pub(super) fn tuple<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    header: Header,
) -> Tuple<A> {
    let count = address_words::<A>();
    let mut words = [0; 4];
    for (index, word) in words.iter_mut().take(count).enumerate() {
        *word = memory.word(bucket, way, at::<A>(index));
    }
    let mut tuple = Tuple::empty();
    set_addresses(&mut tuple, &words);
    let [a, b, c, d] = (memory.word(bucket, way, at::<A>(count)) as u32).to_ne_bytes();
    tuple.source_port = Port([a, b]);
    tuple.destination_port = Port([c, d]);
    tuple.protocol = header.protocol();
    tuple
}

#[inline(always)]
fn set_addresses<A: Address>(tuple: &mut Tuple<A>, words: &[u64; 4]) {
    let half = |word: u64| [word as u32, (word >> 32) as u32];
    let [[a, b], [c, d], [e, f], [g, h]] = words.map(half);
    match A::FAMILY {
        Family::V4 => {
            tuple.source = A::from_words([a, 0, 0, 0]);
            tuple.destination = A::from_words([b, 0, 0, 0]);
        }
        Family::V6 => {
            tuple.source = A::from_words([a, b, c, d]);
            tuple.destination = A::from_words([e, f, g, h]);
        }
    }
}

/// Writes a tuple and what is remembered under it; the place is claimed by the caller.
#[inline(always)]
pub(super) fn write<A: Address, M: Memory>(
    memory: M,
    (bucket, way): (M::Bucket, u32),
    tuple: &Tuple<A>,
    entry: &ConntrackEntry<A>,
) {
    let count = address_words::<A>();
    let rewritten = &entry.rewritten;
    for index in 0..count {
        memory.set_word(
            bucket,
            way,
            at::<A>(index),
            addresses(&tuple.source, &tuple.destination, index),
        );
        let word = addresses(&rewritten.source, &rewritten.destination, index);
        memory.set_word(bucket, way, at::<A>(count + 1 + index), word);
    }
    memory.set_word(bucket, way, at::<A>(count), pair(ports(tuple), ports(rewritten)));
    let backend = entry.backend.0 & ((1 << BACKEND_BITS) - 1) | entry.generation << BACKEND_BITS;
    memory.set_word(bucket, way, at::<A>(expected_word::<A>()), pair(entry.expected, backend));
}
