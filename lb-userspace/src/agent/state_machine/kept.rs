//! What is kept for flows alone, and when it is let go.

use crate::maps::{Contents, FilterBits, References};

/// Retired backends and bits of the filter, between the garbage collections of conntrack entries.
#[derive(Default, Debug)]
pub struct KeptForFlows {
    /// What is free if the collection under way finds no flow that needs it.
    candidates: Option<References>,
    /// What no conntrack entry refers to.
    unreferenced: References,
}

impl KeptForFlows {
    /// A collection begins, when this is kept.
    pub fn begin(&mut self, kept: References) {
        self.candidates = Some(kept);
    }

    /// The collection has found that flows refer to this.
    pub fn end(&mut self, referenced: &References) {
        if let Some(candidates) = self.candidates.take() {
            self.unreferenced = candidates.without(referenced);
        }
    }

    /// What no conntrack entry refers to.
    pub const fn unreferenced(&self) -> &References {
        &self.unreferenced
    }

    /// The same, which is then planned without.
    pub fn take_unreferenced(&mut self) -> References {
        std::mem::take(&mut self.unreferenced)
    }

    /// A backend that serves again, and the bits of a frontend that is there again, are no candidates for
    /// removal any more: flows to them may begin, which the collection under way need not see.
    pub fn forget_needed(&mut self, contents: &Contents, needed: &FilterBits) {
        let (v4, v6) = (&contents.v4.backends, &contents.v6.backends);
        for set in self.candidates.iter_mut().chain([&mut self.unreferenced]) {
            set.backends.v4.retain(|id| v4.get(id).is_some_and(|row| !row.is_serving()));
            set.backends.v6.retain(|id| v6.get(id).is_some_and(|row| !row.is_serving()));
            if !set.filter.is_empty() {
                let filter = std::mem::take(&mut set.filter);
                set.filter = filter.without(needed);
            }
        }
    }
}
