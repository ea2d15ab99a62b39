//! Bits of the filter: which ones rows and conntrack entries need.

use std::collections::BTreeMap;

use lb_common::address::{Address, Tuple};
use lb_common::conntrack::ConntrackEntry;
use lb_common::filter::{self, Position, WORDS};

/// A set of the filter's bits.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FilterBits {
    /// All words of the filter, or none while the set is empty.
    words: Vec<u64>,
}

impl FilterBits {
    /// No bits, with words for all of them.
    pub(super) fn none() -> Self {
        Self { words: vec![0; WORDS as usize] }
    }

    /// The bits of `words`, as in `Contents::filter`.
    #[must_use]
    pub fn of_words(words: &BTreeMap<u32, u64>) -> Self {
        let mut bits = Self::default();
        for (word, mask) in words {
            bits.add(Position { word: *word, mask: *mask });
        }
        bits
    }

    /// The words that are not zero, by index.
    #[must_use]
    pub fn to_words(&self) -> BTreeMap<u32, u64> {
        (0..).zip(&self.words).filter(|(_, bits)| **bits != 0).map(|(i, bits)| (i, *bits)).collect()
    }

    /// Adds the bits at `position`.
    pub fn add(&mut self, position: Position) {
        if self.words.is_empty() {
            *self = Self::none();
        }
        if let Some(word) = self.words.get_mut(position.word as usize) {
            *word |= position.mask;
        }
    }

    /// Removes one bit, counted from the filter's first.
    pub(super) fn remove(&mut self, bit: usize) {
        if let Some(word) = self.words.get_mut(bit / u64::BITS as usize) {
            *word &= !(1 << (bit % u64::BITS as usize));
        }
    }

    /// The bits of one word.
    #[must_use]
    pub fn word(&self, index: u32) -> u64 {
        self.words.get(index as usize).copied().unwrap_or(0)
    }

    /// The words that are not zero.
    pub fn words(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.words).filter(|(_, bits)| **bits != 0).map(|(index, _)| index)
    }

    /// Adds the bits that let packets of a flow through in both directions; `tuple` is the key of `entry`,
    /// which may be either one of the flow's two. A direct flow is sent to its backend itself.
    pub fn add_flow<A: Address>(&mut self, tuple: &Tuple<A>, entry: &ConntrackEntry<A>) {
        let mut keys = (*tuple, entry.other_key());
        if entry.is_reply() {
            keys = (keys.1, keys.0);
        }
        let (original, reply) = keys;
        let protocol = original.protocol;
        if !entry.is_direct() {
            self.add(filter::frontend(&original.destination, original.destination_port, protocol));
        }
        self.add(filter::backend(&reply.source, reply.source_port, protocol));
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(mut self, others: &Self) -> Self {
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            *word &= !other;
        }
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}
