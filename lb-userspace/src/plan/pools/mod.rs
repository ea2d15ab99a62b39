//! The range of each pool in the one slot array. A pool with the same backends keeps its range; a new
//! one gets a range that is unused in the maps, so it can be written while packets still use the old
//! pool, and the frontend is then switched in one write.

mod maglev;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use lb_common::backend::BackendId;
use lb_common::service::Pool;

use super::index::Gaps;
use crate::maps::{Contents, PoolSlots};

/// A backend of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) id: BackendId,
    /// The key from which its slots follow, the same on every node.
    pub(super) key: u64,
}

/// How many slots each backend gets, best first, and the fraction of the array (one in so many) that
/// must stay free, so that large pools of the first Services leave slots for the last ones.
const LEVELS: [(u32, u32); 3] =
    [(maglev::FINE, 4), (maglev::COARSE, 16), (maglev::LEAST, u32::MAX)];

/// The slot array.
pub(super) struct Pools<'a> {
    before: &'a BTreeMap<u32, PoolSlots>,
    after: BTreeMap<u32, PoolSlots>,
    free: Free<'a>,
    /// Written ranges that no frontend refers to, left by a failed write: they can be reused.
    spare: HashMap<u64, (u32, &'a PoolSlots)>,
    /// Slots of all pools, each at its default size.
    pub(super) needed: u64,
    /// Whether a pool is missing or smaller than by default.
    pub(super) is_short: bool,
    /// Whether a pool is missing.
    pub(super) is_missing: bool,
}

impl<'a> Pools<'a> {
    /// The array of `before`, of `capacity` slots. `unused` are those of them that are in no pool, of these Services
    /// or others.
    pub(super) fn of(before: &'a Contents, unused: &'a Gaps, capacity: u32) -> Self {
        let pools = before.v4.pools().chain(before.v6.pools());
        let named: HashSet<u32> = pools.map(|(_, pool)| pool.base).collect();
        let spare = before.slots.iter().filter(|(base, _)| !named.contains(base));
        Self {
            before: &before.slots,
            after: BTreeMap::new(),
            free: Free::of(unused, capacity),
            spare: spare.map(|(base, slots)| (slots.digest(), (*base, slots))).collect(),
            needed: 0,
            is_short: false,
            is_missing: false,
        }
    }

    /// A pool of exactly `members`, at least one: one of the Service port's `old` pools, or a new one. It
    /// has fewer slots where the array is nearly full; `None` if nothing is free.
    pub(super) fn pool(&mut self, old: &[Pool], members: &[Member]) -> Option<Pool> {
        let default = maglev::size(members.len(), maglev::FINE);
        self.needed += u64::from(default);
        let mut ids: Vec<BackendId> = members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        let kept = old.iter().copied().filter(|pool| self.is_of(*pool, &ids));
        let kept = kept.max_by_key(|pool| pool.length);
        let pool = self.best(kept, members);
        self.is_short |= pool.is_none_or(|pool| pool.length < default);
        self.is_missing |= pool.is_none();
        pool
    }

    fn best(&mut self, kept: Option<Pool>, members: &[Member]) -> Option<Pool> {
        for (each, reserve) in LEVELS {
            let length = maglev::size(members.len(), each);
            if let Some(kept) = kept.filter(|pool| pool.length >= length) {
                return self.keep(kept);
            }
            if let Some(pool) = self.make(members, length, reserve) {
                return Some(pool);
            }
        }
        None
    }

    fn make(&mut self, members: &[Member], length: u32, reserve: u32) -> Option<Pool> {
        // Computing a table is expensive: not before a range for it is free.
        if self.spare.is_empty() && self.free.gap(length, reserve).is_none() {
            return None;
        }
        let slots = slots(members, length);
        let spare = self.spare.remove(&slots.digest()).filter(|(_, spare)| **spare == slots);
        let spare = spare.map(|(base, _)| base);
        let base = spare.or_else(|| self.free.take(length, reserve))?;
        self.after.insert(base, slots);
        Some(Pool { base, length })
    }

    /// Keeps an old pool as it is; `None` if it is not in the array.
    pub(super) fn keep(&mut self, pool: Pool) -> Option<Pool> {
        let slots = self.before.get(&pool.base)?;
        if slots.len() != pool.length {
            return None;
        }
        self.after.insert(pool.base, slots.clone());
        Some(pool)
    }

    /// Whether a pool contains exactly `members`, which are in the order of their ids, as evenly as Maglev tables do.
    /// Cheaper than computing the table again.
    fn is_of(&self, pool: Pool, members: &[BackendId]) -> bool {
        self.before.get(&pool.base).is_some_and(|slots| {
            let shares = || slots.shares().iter().map(|(_, share)| *share);
            let (least, most) = (shares().min().unwrap_or(0), shares().max().unwrap_or(0));
            slots.len() == pool.length
                && most - least <= 1
                && slots.backends().eq(members.iter().copied())
        })
    }

    /// The array with all requested pools.
    pub(super) fn into_slots(self) -> BTreeMap<u32, PoolSlots> {
        self.after
    }
}

fn slots(members: &[Member], length: u32) -> PoolSlots {
    let keys: Vec<u64> = members.iter().map(|member| member.key).collect();
    let table = maglev::table(&keys, length);
    let ids = table.into_iter().map(|index| members[index as usize].id);
    PoolSlots::of(ids.collect::<Arc<[BackendId]>>())
}

/// Slots that are in no pool of the maps, and not in one of this plan.
struct Free<'a> {
    /// Before this plan.
    gaps: &'a Gaps,
    /// Those of the gaps that this plan has taken from, by length and first slot.
    used: BTreeSet<(u32, u32)>,
    /// What is left of them.
    rest: BTreeSet<(u32, u32)>,
    /// Slots in all gaps.
    left: u32,
    capacity: u32,
}

impl<'a> Free<'a> {
    fn of(gaps: &'a Gaps, capacity: u32) -> Self {
        Self { gaps, used: BTreeSet::new(), rest: BTreeSet::new(), left: gaps.left(), capacity }
    }

    /// The smallest gap of at least `length` slots, as length and first slot, if one in `reserve` of all slots is free
    /// besides.
    fn gap(&self, length: u32, reserve: u32) -> Option<(u32, u32)> {
        let besides = self.left.checked_sub(length)?;
        if besides < self.capacity / reserve {
            return None;
        }
        let whole = self.gaps.of_at_least(length).find(|gap| !self.used.contains(gap));
        let rest = self.rest.range((length, 0)..).next().copied();
        whole.into_iter().chain(rest).min()
    }

    /// The first `length` slots of the smallest gap that is large enough, which leaves large gaps for
    /// large pools. `None` without the `reserve`.
    fn take(&mut self, length: u32, reserve: u32) -> Option<u32> {
        let (gap, base) = self.gap(length, reserve)?;
        if !self.rest.remove(&(gap, base)) {
            self.used.insert((gap, base));
        }
        if gap > length {
            self.rest.insert((gap - length, base + length));
        }
        self.left -= length;
        Some(base)
    }
}
