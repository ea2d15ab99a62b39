//! The filter: a Bloom filter with one bit for every frontend and every backend, checked before the hash
//! look-ups.
//!
//! Most packets of a node are not for a Service. A packet without a conntrack entry can be for one only if
//! its destination is a frontend or its source is a backend. The bit is checked at a tenth of the cost of
//! a hash look-up; a false positive costs one look-up.

use crate::address::{Address, Port, Protocol};
use crate::hash;

/// Bits in the filter: 128 KiB, within the second-level cache. With 10,000 Services of ten endpoints
/// each, one packet in eight is a false positive.
pub const BITS: u32 = 1 << 20;

/// Words of 64 bits in the `FILTER` array.
pub const WORDS: u32 = BITS / 64;

/// The position of a bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// Index into the `FILTER` array, below [`WORDS`].
    pub word: u32,
    /// The bit within that word.
    pub mask: u64,
}

/// The bit of `address`, `port` and `protocol`.
#[inline(always)]
#[must_use]
pub fn position<A: Address>(address: &A, port: Port, protocol: Protocol) -> Position {
    let hash = hash::endpoint(address, port, protocol) & (BITS - 1);
    Position { word: hash / 64, mask: 1 << (hash % 64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::V4;

    #[test]
    fn positions_lie_within_the_array() {
        for i in 0..10_000u32 {
            let position = position(&V4(i.to_be_bytes()), Port::new(i as u16), Protocol::UDP);
            assert!(position.word < WORDS);
            assert_eq!(position.mask.count_ones(), 1);
        }
    }
}
