//! How many rows need each bit of the filter.

use lb_common::address::Address;
use lb_common::backend::Backend;
use lb_common::filter::{self, BITS, Position};
use lb_common::service::Frontend;

use super::filter::FilterBits;
use super::values::FamilyContents;
use crate::maps::operation::FamilyOperation;

/// How many rows need each bit of the filter, so that those that are needed are known without a walk over all rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilterCounts {
    /// Rows by bit. A count that has reached the highest number stays there, and with it
    /// its bit, until all rows are counted again.
    rows: Vec<u16>,
    /// Bits that are needed.
    bits: FilterBits,
}

impl Default for FilterCounts {
    /// No rows.
    fn default() -> Self {
        Self { rows: vec![0; BITS as usize], bits: FilterBits::none() }
    }
}

impl FilterCounts {
    /// Counts a row with its bits at `position`.
    pub fn add(&mut self, position: Position) {
        for bit in bits_of(position) {
            self.rows[bit] = self.rows[bit].saturating_add(1);
        }
        self.bits.add(position);
    }

    /// Counts a row less.
    pub fn remove(&mut self, position: Position) {
        for bit in bits_of(position) {
            if let Some(rows) = self.rows.get_mut(bit).filter(|rows| **rows < u16::MAX) {
                *rows = rows.saturating_sub(1);
                if *rows == 0 {
                    self.bits.remove(bit);
                }
            }
        }
    }

    /// Follows an operation on rows that are as in `before`.
    pub fn follow<A: Address>(
        &mut self,
        operation: &FamilyOperation<A>,
        before: &FamilyContents<A>,
    ) {
        let (old, new) = match operation {
            FamilyOperation::Frontend(key, row) => {
                let position = of_frontend(key);
                (before.frontends.get(key).map(|_| position), row.map(|_| position))
            }
            FamilyOperation::Backend(id, row) => {
                (before.backends.get(id).map(of_backend), row.as_ref().map(of_backend))
            }
            FamilyOperation::IpPolicy(..) | FamilyOperation::SourceRange(..) => (None, None),
        };
        if old != new {
            new.into_iter().for_each(|position| self.add(position));
            old.into_iter().for_each(|position| self.remove(position));
        }
    }

    /// The bits that are needed.
    #[must_use]
    pub const fn bits(&self) -> &FilterBits {
        &self.bits
    }
}

/// Where a frontend has its bits.
fn of_frontend<A: Address>(frontend: &Frontend<A>) -> Position {
    filter::frontend(&frontend.address, frontend.port, frontend.protocol)
}

/// Where a backend has its bits.
fn of_backend<A: Address>(row: &Backend<A>) -> Position {
    filter::backend(&row.address, row.port, row.protocol)
}

/// The bits at `position`, counted from the filter's first.
fn bits_of(position: Position) -> impl Iterator<Item = usize> {
    let in_word = (0..u64::BITS).filter(move |bit| position.mask >> bit & 1 == 1);
    in_word.map(move |bit| (position.word * u64::BITS + bit) as usize)
}
