//! What conntrack entries refer to, and what is kept for them.

use std::collections::BTreeSet;

use lb_common::backend::BackendId;

use super::filter::FilterBits;

/// What conntrack entries refer to, or what none refers to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct References {
    /// Backends.
    pub backends: BackendSet,
    /// Bits of the filter.
    pub filter: FilterBits,
}

impl References {
    /// Those that are not in `others`.
    #[must_use]
    pub fn without(self, others: &Self) -> Self {
        let backends = self.backends.without(&others.backends);
        Self { backends, filter: self.filter.without(&others.filter) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.filter.is_empty()
    }
}

/// Some backends of either family.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BackendSet {
    /// Ids of `BACKENDS_V4`.
    pub v4: BTreeSet<BackendId>,
    /// Ids of `BACKENDS_V6`.
    pub v6: BTreeSet<BackendId>,
}

impl BackendSet {
    /// Those that are in `others` too.
    #[must_use]
    pub fn among(&self, others: &Self) -> Self {
        Self { v4: &self.v4 & &others.v4, v6: &self.v6 & &others.v6 }
    }

    /// Those that are not in `others`.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self { v4: &self.v4 - &others.v4, v6: &self.v6 - &others.v6 }
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}
