//! The filter: a Bloom filter of all frontends and backends, read before any hash look-up.
//!
//! Most packets of a node are not for a Service. A packet can be of a translated flow, or begin one, only if
//! its destination is a frontend or its source is a backend. The filter says so at a tenth of the cost of a
//! hash look-up; a false positive costs the look-ups. Each of them has two bits of one word, so that
//! one load shows both. Its first bit is the same whether it is a frontend or a backend, its second one is
//! not: most packets to a backend are none to a frontend.

use crate::address::{Address, Port, Protocol};
use crate::hash;

/// Bits in the filter: 128 KiB, within the second-level cache. With 10,000 Services of ten endpoints
/// each, one question in 24 is answered wrongly with yes.
pub const BITS: u32 = 1 << 20;

/// Words of 64 bits in the `FILTER` array.
pub const WORDS: u32 = BITS / 64;

/// Bits of a hash that select one of a word's.
const IN_WORD: u32 = 63;

/// Where a frontend or backend has its bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// Index into the `FILTER` array, below [`WORDS`].
    pub word: u32,
    /// The bits within that word: two, or one where both fall together.
    pub mask: u64,
}

impl Position {
    /// Whether `word` has these bits, all of them.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, word: u64) -> bool {
        word & self.mask == self.mask
    }
}

/// The bits of a frontend with this `address`, `port` and `protocol`.
#[inline(always)]
#[must_use]
pub fn frontend<A: Address>(address: &A, port: Port, protocol: Protocol) -> Position {
    let hash = hash::endpoint(address, port, protocol);
    position(hash, hash >> 20)
}

/// The bits of a backend with this `address`, `port` and `protocol`.
#[inline(always)]
#[must_use]
pub fn backend<A: Address>(address: &A, port: Port, protocol: Protocol) -> Position {
    let hash = hash::endpoint(address, port, protocol);
    position(hash, hash >> 26)
}

#[inline(always)]
const fn position(hash: u32, second: u32) -> Position {
    let first = hash & (BITS - 1);
    Position { word: first / 64, mask: 1 << (first & IN_WORD) | 1 << (second & IN_WORD) }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;
    use crate::address::V4;

    fn place(number: u32) -> (V4, Port) {
        (V4(number.to_be_bytes()), Port::new(number as u16))
    }

    #[test]
    fn positions_lie_within_the_array_and_have_one_bit_or_two() {
        for (address, port) in (0..10_000).map(place) {
            for of in [frontend, backend] {
                let position = of(&address, port, Protocol::UDP);
                assert!(position.word < WORDS);
                assert!((1..=2).contains(&position.mask.count_ones()));
            }
        }
    }

    #[test]
    fn a_filter_of_ten_thousand_services_of_ten_endpoints_is_wrong_once_in_twenty_four() {
        const SERVICES: u32 = 10_000;
        const BACKENDS: u32 = 100_000;
        const OTHERS: u32 = 200_000;
        let mut words = vec![0u64; WORDS as usize];
        let mut set = |at: Position| words[at.word as usize] |= at.mask;
        for number in 0..SERVICES {
            // 10.96.0.0/12
            set(frontend(&V4((0x0a60_0000 + number).to_be_bytes()), Port::new(80), Protocol::TCP));
        }
        for number in 0..BACKENDS {
            // 10.128.0.0/9
            set(backend(&V4((0x0a80_0000 + number).to_be_bytes()), Port::new(8080), Protocol::TCP));
        }
        for of in [frontend, backend] {
            // 192.0.2.0 and on, all ports.
            let others = (0..OTHERS).map(|n| {
                of(&V4((0xc000_0200 + n).to_be_bytes()), Port::new(n as u16), Protocol::TCP)
            });
            let wrong = others.filter(|at| at.is_in(words[at.word as usize])).count() as f64;
            let share = wrong / f64::from(OTHERS);
            assert!((0.035..0.045).contains(&share), "{share}");
        }
        let backends_as_frontends = (0..BACKENDS)
            .map(|n| frontend(&V4((0x0a80_0000 + n).to_be_bytes()), Port::new(8080), Protocol::TCP))
            .filter(|at| at.is_in(words[at.word as usize]))
            .count() as f64;
        let share = backends_as_frontends / f64::from(BACKENDS);
        assert!((0.15..0.25).contains(&share), "{share}");
    }
}
