//! Source ports for SNAT: those that a flow may take, and hints which of them are in use.
//!
//! A row is the odd or the even ones of 1024 consecutive ports, hence 512 ports; there are 128. What may be
//! taken is a choice of rows, in tiers: a later tier is tried once the earlier ones are in use. What is in
//! use is known from conntrack entries; hints say where looking is worth while. A hint that is set and
//! should not be costs a port until the agent clears it; one that is not set and should be costs an
//! attempt.

use crate::address::{Address, Port, Protocol};
use crate::hash;

/// Consecutive ports of which a row has every other one.
pub const SPAN: u32 = 1024;

/// Rows of ports: first those of odd ports, then those of even ones. Within these, rows of neighbouring
/// spans lie far apart ([`SCATTER`]), so that a search from anywhere has one of a tier's rows close by.
pub const ROWS: u32 = 128;

/// Words of 64 ports in a row.
pub const WORDS: u32 = SPAN / 2 / 64;

/// Tiers of ports.
pub const TIERS: usize = 3;

/// Rows of hints, shared by all backends; a power of two. 512 KiB: with 250,000 flows one port in
/// sixteen looks as if it were in use.
pub const HINT_ROWS: u32 = 1 << 13;

/// Groups of flows of which full rows are known; a power of two.
pub const GROUPS: u32 = 1 << 12;

/// A choice of rows: one bit per row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(C)]
pub struct Rows {
    /// Those of odd ports, one bit per row.
    pub odd: u64,
    /// Those of even ports.
    pub even: u64,
}

impl Rows {
    /// Both rows of the spans from `first` to `last`.
    #[must_use]
    pub const fn of_spans(first: u32, last: u32) -> Self {
        let (mut rows, mut span) = (0, first);
        while span <= last {
            rows |= 1 << (span * SCATTER % 64);
            span += 1;
        }
        Self { odd: rows, even: rows }
    }

    /// Those of either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self { odd: self.odd | other.odd, even: self.even | other.even }
    }

    /// How many ports there are.
    #[must_use]
    pub const fn ports(&self) -> u32 {
        (self.odd.count_ones() + self.even.count_ones()) * WORDS * 64
    }

    /// Whether there are none.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.odd | self.even == 0
    }

    /// Those of them that are not in `full`.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, full: Self) -> Self {
        Self { odd: self.odd & !full.odd, even: self.even & !full.even }
    }

    /// The first row from `start` on, below [`ROWS`]; after the last one of odd or of even ports comes the
    /// first one of these, and only where there is none at all one of the others. `None` if there are no rows.
    #[inline(always)]
    #[must_use]
    pub const fn from(self, start: u32) -> Option<u32> {
        let Self { odd, even } = self;
        let (here, there, base) = if start < 64 { (odd, even, 0) } else { (even, odd, 64) };
        let (bits, base) = if here == 0 { (there, base ^ 64) } else { (here, base) };
        if bits == 0 {
            return None;
        }
        Some(base + (lowest(bits.rotate_right(start % 64)) + start) % 64)
    }
}

/// A span's row of odd ports is its number times this, modulo 64: the golden ratio of 64, so that the rows of
/// consecutive spans lie evenly among all, however many spans there are.
const SCATTER: u32 = 39;

/// The way back: the product with [`SCATTER`] is 1 modulo 64.
const GATHER: u32 = 23;

/// A row of hints: one bit per port, set where it is thought to be in use.
pub type PortHints = [u64; WORDS as usize];

/// The number of the lowest bit that is set in `word`, which is not zero. BPF has no instruction for it;
/// this is de Bruijn's, without branches, each of which the verifier would follow.
#[expect(clippy::indexing_slicing, reason = "six bits are below 64, the length of the table")]
#[inline(always)]
#[must_use]
pub const fn lowest(word: u64) -> u32 {
    let bit = word & word.wrapping_neg();
    NUMBERS[(bit.wrapping_mul(DE_BRUIJN) >> 58) as usize & 63] as u32
}

/// Each run of six bits occurs in it once.
const DE_BRUIJN: u64 = 0x03f7_9d71_b4cb_0a89;

/// The number of a bit, by the six bits at the top of its product with [`DE_BRUIJN`].
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would report it")]
static NUMBERS: [u8; 64] = {
    let mut numbers = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        numbers[((1u64 << bit).wrapping_mul(DE_BRUIJN) >> 58) as usize] = bit;
        bit += 1;
    }
    numbers
};

/// The flows whose source ports must differ: those of one backend and of one source address.
#[inline(always)]
#[must_use]
pub fn group<A: Address>(backend: &A, port: Port, protocol: Protocol, source: &A) -> u32 {
    let none = Port::new(0);
    hash::endpoint(backend, port, protocol) ^ hash::endpoint(source, none, protocol)
}

/// The row of hints for a group's row of ports. The rows of a group are as far apart as the upper half of its
/// number says, an odd number, so no two are the same, and two groups share few.
#[inline(always)]
#[must_use]
pub const fn hint_row(group: u32, row: u32) -> u32 {
    let apart = group >> 16 | 1;
    group.wrapping_add(row.wrapping_mul(apart)) % HINT_ROWS
}

/// Where it is kept which rows of a group are full.
#[inline(always)]
#[must_use]
pub const fn group_index(group: u32) -> u32 {
    group % GROUPS
}

/// A port by its row, word and bit.
#[inline(always)]
#[must_use]
pub const fn port(row: u32, word: u32, bit: u32) -> Port {
    let is_odd = (row < 64) as u32;
    let span = row.wrapping_mul(GATHER) % 64;
    Port::new((span * SPAN + (word * 64 + bit) * 2 + is_odd) as u16)
}

/// The row of a port, the word in it, and the bit in that.
#[inline(always)]
#[must_use]
pub const fn place(port: Port) -> (u32, u32, u32) {
    let port = port.number() as u32;
    let number = port % SPAN / 2;
    (port / SPAN * SCATTER % 64 + (port + 1) % 2 * 64, number / 64, number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::V4;

    extern crate std;

    #[test]
    fn rows_are_found_from_any_start() {
        let rows = Rows { odd: 1 << 3 | 1 << 9, even: 1 << 5 };
        let found = [0, 3, 4, 9, 10, 63, 64, 69, 70, 127].map(|start| rows.from(start));
        let expected = [3, 3, 9, 9, 3, 3, 69, 69, 69, 69];
        assert_eq!(found, expected.map(Some));
        let one = Rows { odd: 1, even: 0 };
        assert_eq!((one.from(1), one.from(64), Rows::default().from(5)), (Some(0), Some(0), None));
        assert_eq!(rows.without(one).with(one).ports(), 4 * 512);
        assert_eq!(Rows::of_spans(1, 63).ports(), 65_536 - 1024);
    }

    #[test]
    fn searches_from_everywhere_spread_over_the_rows_of_any_spans() {
        for count in 1..=64u32 {
            for first in 0..=64 - count {
                let rows = Rows::of_spans(first, first + count - 1);
                for rows in [rows, Rows { even: 0, ..rows }] {
                    let mut times = [0u32; ROWS as usize];
                    for start in 0..ROWS {
                        times[rows.from(start).expect("there are rows") as usize] += 1;
                    }
                    let most = times.iter().max().expect("there are rows");
                    let fair = (ROWS * 512).div_ceil(rows.ports());
                    assert!(*most <= 2 * fair, "{most} of {ROWS} from span {first}, {count} spans");
                }
            }
        }
    }

    #[test]
    fn the_lowest_bit_is_the_lowest() {
        for bit in 0..64 {
            assert_eq!(lowest(1 << bit), bit);
            assert_eq!(lowest(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn each_port_has_a_place_of_its_own() {
        let mut places = std::collections::BTreeSet::new();
        for number in 0..=u16::MAX {
            let (row, word, bit) = place(Port::new(number));
            assert!(row < ROWS && word < WORDS && bit < 64);
            assert_eq!(port(row, word, bit).number(), number);
            assert!(places.insert((row, word, bit)));
        }
    }

    #[test]
    fn rows_of_a_group_have_hints_of_their_own() {
        let backend = V4([10, 244, 2, 6]);
        let group = group(&backend, Port::new(8080), Protocol::TCP, &V4([192, 0, 2, 1]));
        let rows: std::collections::BTreeSet<_> = (0..ROWS).map(|r| hint_row(group, r)).collect();
        assert_eq!(rows.len(), ROWS as usize);
        assert!(rows.iter().all(|row| *row < HINT_ROWS));
    }

    #[test]
    fn two_groups_share_few_rows_of_hints() {
        let rows_of = |backend: u16| {
            let [a, b] = backend.to_be_bytes();
            let backend = V4([10, 244, a, b]);
            let group = group(&backend, Port::new(8080), Protocol::TCP, &V4([192, 0, 2, 1]));
            (0..ROWS).map(move |row| hint_row(group, row))
        };
        let first: std::collections::BTreeSet<_> = rows_of(0).collect();
        let shared = |backend| rows_of(backend).filter(|row| first.contains(row)).count();
        let shared: std::vec::Vec<usize> = (1..=10_000).map(shared).collect();
        // Two are expected.
        assert!(
            shared.iter().sum::<usize>() <= 3 * shared.len(),
            "{}",
            shared.iter().sum::<usize>()
        );
        let many = shared.iter().filter(|shared| **shared > ROWS as usize / 4).count();
        assert!(many <= shared.len() / 100, "{many} of {} share a quarter", shared.len());
    }
}
