//! The fields of a bucket's places, by which another release reads them. Not among them is what only serves to find an
//! entry: eight bits of its tuple's hash, and how often its place was used.

use super::backing::WAYS;
use super::contents::{BACKEND_BITS, address_words, at, words};
use super::header::{
    FLAGS_SHIFT, MARKS_SHIFT, PHASE_BITS, PROTOCOL_SHIFT, RESET_SHIFT, SEEN_SHIFT,
};
use crate::address::{Address, Family, V4, V6};
use crate::fields::Field;

/// The fields of a family's buckets: those that both families have, and the addresses.
#[must_use]
pub const fn fields(family: Family) -> [&'static [Field]; 2] {
    const COMMON_V4: &[Field] = &common::<V4>();
    const COMMON_V6: &[Field] = &common::<V6>();
    const ADDRESSES_V4: &[Field] = &of_v4();
    const ADDRESSES_V6: &[Field] = &of_v6();
    match family {
        Family::V4 => [COMMON_V4, ADDRESSES_V4],
        Family::V6 => [COMMON_V6, ADDRESSES_V6],
    }
}

const fn header(name: &'static str, bit: u32, bits: u32) -> Field {
    Field { name, bit, bits, stride: u64::BITS }
}

/// A field that begins at a `bit` of a word of the contents.
const fn content<A: Address>(name: &'static str, word: usize, bit: u32, bits: u32) -> Field {
    let word = WAYS + at::<A>(word) as u32;
    Field { name, bit: word * u64::BITS + bit, bits, stride: words::<A>() as u32 * u64::BITS }
}

/// The fields that both families have: of the header, and the last ones of the contents.
const fn common<A: Address>() -> [Field; 13] {
    let (ports, expected) = (address_words::<A>(), 2 * address_words::<A>() + 1);
    [
        header("phase", 0, PHASE_BITS),
        header("protocol", PROTOCOL_SHIFT, 2),
        header("flags", FLAGS_SHIFT, 6),
        header("marks", MARKS_SHIFT, 4),
        header("reset", RESET_SHIFT, 8),
        header("seen", SEEN_SHIFT, u64::BITS - SEEN_SHIFT),
        content::<A>("source_port", ports, 0, 16),
        content::<A>("destination_port", ports, 16, 16),
        content::<A>("rewritten_source_port", ports, 32, 16),
        content::<A>("rewritten_destination_port", ports, 48, 16),
        content::<A>("expected", expected, 0, 32),
        content::<A>("backend", expected, 32, BACKEND_BITS),
        content::<A>("generation", expected, 32 + BACKEND_BITS, 32 - BACKEND_BITS),
    ]
}

const fn of_v4() -> [Field; 4] {
    [
        content::<V4>("source", 0, 0, 32),
        content::<V4>("destination", 0, 32, 32),
        content::<V4>("rewritten_source", 2, 0, 32),
        content::<V4>("rewritten_destination", 2, 32, 32),
    ]
}

/// The two words of an address need not follow each other.
const fn of_v6() -> [Field; 8] {
    [
        content::<V6>("source_0", 0, 0, 64),
        content::<V6>("source_1", 1, 0, 64),
        content::<V6>("destination_0", 2, 0, 64),
        content::<V6>("destination_1", 3, 0, 64),
        content::<V6>("rewritten_source_0", 5, 0, 64),
        content::<V6>("rewritten_source_1", 6, 0, 64),
        content::<V6>("rewritten_destination_0", 7, 0, 64),
        content::<V6>("rewritten_destination_1", 8, 0, 64),
    ]
}
