//! The slots of a pool, as much of them as has to be remembered.

use std::fmt;
use std::sync::Arc;

use lb_common::backend::BackendId;

/// The slots of one pool. A pool of ten backends has a thousand slots, and there is one for each Service port, so what they
/// hold is forgotten once it is written; how many each backend has, and a digest of all, is not.
#[derive(Clone)]
pub struct PoolSlots {
    length: u32,
    /// Each backend, by id, with its number of slots.
    shares: Arc<[(BackendId, u32)]>,
    /// Of the ids in the order of the slots.
    digest: u64,
    /// The id in each slot, unless that is forgotten.
    ids: Option<Arc<[BackendId]>>,
}

impl PoolSlots {
    /// Slots with these ids, at least one.
    #[must_use]
    pub fn of(ids: impl Into<Arc<[BackendId]>>) -> Self {
        let ids = ids.into();
        let mut shares: Vec<(BackendId, u32)> = Vec::new();
        for id in &*ids {
            match shares.binary_search_by_key(id, |(id, _)| *id) {
                Ok(index) => shares[index].1 += 1,
                Err(index) => shares.insert(index, (*id, 1)),
            }
        }
        Self {
            length: ids.len() as u32,
            shares: shares.into(),
            digest: ids.iter().fold(0, |digest, id| mixed(digest ^ u64::from(id.0))),
            ids: Some(ids),
        }
    }

    /// How many slots there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether there is none, which no pool has.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Each backend, by id, with its number of slots.
    #[must_use]
    pub fn shares(&self) -> &[(BackendId, u32)] {
        &self.shares
    }

    /// The backends, by id.
    pub fn backends(&self) -> impl Iterator<Item = BackendId> {
        self.shares.iter().map(|(id, _)| *id)
    }

    /// The id in each slot; `None` if that is forgotten.
    #[must_use]
    pub fn ids(&self) -> Option<&[BackendId]> {
        self.ids.as_deref()
    }

    /// Forgets the id in each slot.
    pub fn forget_ids(&mut self) {
        self.ids = None;
    }

    /// A digest of the slots.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

/// The finaliser of splitmix64: each bit depends on all.
const fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl PartialEq for PoolSlots {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |slots: &Self| (slots.length, slots.digest);
        numbers(self) == numbers(other) && self.shares == other.shares
    }
}

impl Eq for PoolSlots {}

impl fmt::Debug for PoolSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots {:x}{self}", self.length, self.digest)
    }
}

impl fmt::Display for PoolSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shares.iter().try_for_each(|(id, share)| write!(f, " backend{id}×{share}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots<const N: usize>(ids: [u32; N]) -> PoolSlots {
        PoolSlots::of(ids.map(BackendId))
    }

    #[test]
    fn slots_are_equal_by_their_order_and_not_by_what_is_forgotten() {
        let mut one = slots([1, 2, 1, 3]);
        assert_eq!(one, slots([1, 2, 1, 3]));
        assert_ne!(one, slots([1, 1, 2, 3]));
        assert_ne!(one, slots([1, 2, 1, 3, 1]));
        assert_ne!(slots([1]), slots([2]));
        one.forget_ids();
        assert_eq!(one, slots([1, 2, 1, 3]));
        assert_eq!(one.ids(), None);
        assert_eq!(one.to_string(), " backend1×2 backend2×1 backend3×1");
    }
}
