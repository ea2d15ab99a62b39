//! The hints of which source ports are in use, set right: the datapath only ever sets them. A run of the
//! garbage collection clears those that were set before it and of which it saw no entry, and sets those of
//! entries it saw, as after an upgrade. Of what a walk sets meanwhile one may be lost, which costs a later
//! flow one attempt.

use std::collections::HashMap;

use lb_common::address::{Address, Tuple};
use lb_common::conntrack::ConntrackEntry;
use lb_common::snat::{self, GROUPS, HINT_ROWS, PortHints, ROWS, Rows};

use crate::maps::MapError;
use crate::maps::bpf_map::Table;

/// Which hints were set before a run, and which are those of entries that it saw.
#[derive(Debug)]
pub struct PortsInUse {
    before: Vec<PortHints>,
    seen: Vec<PortHints>,
    /// How many ports each group of flows uses.
    groups: HashMap<u32, u32>,
}

impl PortsInUse {
    /// Reads the hints as they are before a run.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn before(map: &Table<u32, PortHints>) -> Result<Self, MapError> {
        let mut hints = Self::none();
        map.for_each(|row, words| {
            hints.set_before(row, words);
            Ok(())
        })?;
        Ok(hints)
    }

    pub(super) fn set_before(&mut self, row: u32, words: PortHints) {
        if let Some(before) = self.before.get_mut(row as usize) {
            *before = words;
        }
    }

    /// No hint is set, and no entry seen.
    pub(super) fn none() -> Self {
        let none = || vec![PortHints::default(); HINT_ROWS as usize];
        Self { before: none(), seen: none(), groups: HashMap::new() }
    }

    /// Takes an entry in: a reply entry of a flow with another source port than its client's.
    pub(super) fn note<A: Address>(&mut self, tuple: &Tuple<A>, entry: &ConntrackEntry<A>) {
        let is_moved = tuple.destination_port != entry.rewritten.destination_port;
        if !entry.is_reply() || !(is_moved || entry.is_snat() || entry.is_hairpin()) {
            return;
        }
        let Tuple { source, source_port, destination, destination_port, protocol, .. } = tuple;
        let group = snat::group(source, *source_port, *protocol, destination);
        let (row, word, bit) = snat::place(*destination_port);
        if let Some(words) = self.seen.get_mut(snat::hint_row(group, row) as usize) {
            words[word as usize] |= 1 << bit;
        }
        *self.groups.entry(group).or_default() += 1;
    }

    /// The most ports that one group of flows uses.
    pub fn busiest(&self) -> u32 {
        self.groups.values().copied().max().unwrap_or(0)
    }

    /// The rows to change, and what they hold then where they hold `now` at present.
    pub(super) fn change(&self, row: usize, now: &PortHints) -> Option<PortHints> {
        let (before, seen) = (self.before.get(row)?, self.seen.get(row)?);
        let mut words = *now;
        for ((word, before), seen) in words.iter_mut().zip(before).zip(seen) {
            *word = *word & !(before & !seen) | seen;
        }
        (words != *now).then_some(words)
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// A map could not be read or written.
    pub fn write(
        &self,
        hints: &Table<u32, PortHints>,
        full_rows: &Table<u32, Rows>,
    ) -> Result<(), MapError> {
        let mut now = self.before.clone();
        for (row, words) in (0..HINT_ROWS).zip(&mut now) {
            if self.change(row as usize, words).is_none() {
                continue;
            }
            *words = hints.get(&row)?.unwrap_or_default();
            if let Some(changed) = self.change(row as usize, words) {
                hints.set(row, changed)?;
                *words = changed;
            }
        }
        let full = self.full_rows(&now);
        for (index, before) in full_rows.entries()? {
            let rows = full.get(&index).copied().unwrap_or_default();
            if rows != before {
                full_rows.set(index, rows)?;
            }
        }
        Ok(())
    }

    /// The rows of each group that are full while the hints are these.
    pub(super) fn full_rows(&self, hints: &[PortHints]) -> HashMap<u32, Rows> {
        let mut full: HashMap<u32, Rows> = HashMap::with_capacity(GROUPS as usize);
        for group in self.groups.keys() {
            let rows = full.entry(snat::group_index(*group)).or_default();
            for row in 0..ROWS {
                let words = hints.get(snat::hint_row(*group, row) as usize);
                if words.is_some_and(|words| words.iter().all(|word| *word == u64::MAX)) {
                    let spans = if row < 64 { &mut rows.odd } else { &mut rows.even };
                    *spans |= 1 << (row % 64);
                }
            }
        }
        full
    }
}
