//! Ranges of numbers that are unused: ids of rows, and slots.

use std::collections::{BTreeMap, BTreeSet};

/// The unused numbers of a range, kept while numbers are taken and given back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gaps {
    /// First number of each gap, and the first after it.
    by_start: BTreeMap<u32, u32>,
    /// Length and first number of each gap.
    by_length: BTreeSet<(u32, u32)>,
    /// Numbers in all gaps.
    left: u32,
}

impl Gaps {
    /// All numbers from `from` to below `to`.
    pub(super) fn all(from: u32, to: u32) -> Self {
        let mut gaps = Self { by_start: BTreeMap::new(), by_length: BTreeSet::new(), left: 0 };
        gaps.insert(from, to);
        gaps
    }

    /// Takes `length` numbers from `from` on, those of them that are unused.
    pub(super) fn take(&mut self, from: u32, length: u32) {
        let to = from.saturating_add(length);
        if from == to {
            return;
        }
        let first = self.by_start.range(..=from).next_back().map_or(from, |(start, _)| *start);
        let within = self.by_start.range(first..to).map(|(start, end)| (*start, *end));
        let within: Vec<(u32, u32)> = within.filter(|(_, end)| *end > from).collect();
        for (start, end) in within {
            self.remove(start, end);
            self.insert(start, from.min(end));
            self.insert(to.max(start), end);
        }
    }

    /// Gives back `length` numbers from `from` on, which were taken.
    pub(super) fn give_back(&mut self, from: u32, length: u32) {
        let to = from.saturating_add(length);
        if from == to {
            return;
        }
        self.take(from, length);
        let before = self.by_start.range(..from).next_back().map(|(start, end)| (*start, *end));
        let before = before.filter(|(_, end)| *end == from);
        let behind = self.by_start.get(&to).map(|end| (to, *end));
        for (start, end) in before.into_iter().chain(behind) {
            self.remove(start, end);
        }
        self.insert(before.map_or(from, |(start, _)| start), behind.map_or(to, |(_, end)| end));
    }

    /// All unused numbers, the lowest first.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.by_start.iter().flat_map(|(start, end)| *start..*end)
    }

    /// Length and first number of each gap of at least `length`, the smallest first.
    pub fn of_at_least(&self, length: u32) -> impl Iterator<Item = (u32, u32)> {
        self.by_length.range((length, 0)..).copied()
    }

    /// How many numbers are unused.
    pub const fn left(&self) -> u32 {
        self.left
    }

    fn insert(&mut self, start: u32, end: u32) {
        if start < end {
            self.by_start.insert(start, end);
            self.by_length.insert((end - start, start));
            self.left += end - start;
        }
    }

    fn remove(&mut self, start: u32, end: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(end - start, start));
        self.left -= end - start;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gaps_are_what_a_set_of_numbers_says(
            steps in prop::collection::vec((any::<bool>(), 0u32..40, 0u32..9), 0..40),
        ) {
            let (mut gaps, mut unused) = (Gaps::all(1, 40), BTreeSet::from_iter(1..40));
            for (takes, from, length) in steps {
                let (from, length) = (from.max(1), length.min(40 - from.max(1)));
                if takes {
                    gaps.take(from, length);
                    unused.retain(|number| !(from..from + length).contains(number));
                } else {
                    gaps.give_back(from, length);
                    unused.extend(from..from + length);
                }
                prop_assert_eq!(gaps.numbers().collect::<Vec<_>>(), Vec::from_iter(unused.clone()));
                prop_assert_eq!(gaps.left() as usize, unused.len());
                let whole: Vec<_> = gaps.by_start.iter().map(|(start, end)| (end - start, *start)).collect();
                prop_assert_eq!(&BTreeSet::from_iter(whole), &gaps.by_length);
                prop_assert!(gaps.by_start.values().all(|end| !gaps.by_start.contains_key(end)));
            }
        }
    }
}
