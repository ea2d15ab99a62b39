//! The filter: a bit for every frontend and every backend, asked before any slow look-up.
//!
//! Most packets of a node belong to no Service. A packet that is in no connection table can concern
//! us only if its destination is a frontend or its source is a backend; one bit tells, at a tenth
//! of a hash look-up's cost, and a wrong "maybe" costs a look-up and nothing else.

use crate::address::{Address, Port, Protocol};
use crate::hash;

/// Bits in the filter: 128 KiB, within the second-level cache. At 10,000 Services with ten
/// endpoints each, one packet in eight gets a wrong "maybe".
pub const BITS: u32 = 1 << 20;

/// Words of 64 bits in the `FILTER` array.
pub const WORDS: u32 = BITS / 64;

/// Where a bit stands.
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
