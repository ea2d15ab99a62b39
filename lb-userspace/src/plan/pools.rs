//! Where each pool's slots stand in the one array. A pool whose backends are the same keeps its
//! range; a new one gets a range that nothing in the maps uses, so it can be written while packets
//! still go by the old one, and a frontend is switched over in one write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::backend::BackendId;
use lb_common::service::Pool;

use super::maglev;

/// A backend of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) id: BackendId,
    /// What its place in the choice table follows from: the same on every node.
    pub(super) key: u64,
}

/// The slot array.
pub(super) struct Pools<'a> {
    before: &'a BTreeMap<u32, Arc<[BackendId]>>,
    after: BTreeMap<u32, Arc<[BackendId]>>,
    free: Free,
    /// By backend id, for counting; all zero between uses.
    counts: Vec<u32>,
    /// Slots of all pools, each at its default size.
    pub(super) needed: u64,
    /// Whether a pool is missing or smaller than by default.
    pub(super) is_short: bool,
}

impl<'a> Pools<'a> {
    /// An array of `capacity` slots that holds `before`.
    pub(super) fn of(before: &'a BTreeMap<u32, Arc<[BackendId]>>, capacity: u32) -> Self {
        Self {
            before,
            after: BTreeMap::new(),
            free: Free::beside(before, capacity),
            counts: Vec::new(),
            needed: 0,
            is_short: false,
        }
    }

    /// A pool of exactly `members`, at least one: one of those that the Service port `had`, or a new
    /// one. Where room is short it has fewer slots; `None` if there is none at all.
    pub(super) fn pool(&mut self, had: &[Pool], members: &[Member]) -> Option<Pool> {
        let default = maglev::size(members.len(), maglev::FINE);
        self.needed += u64::from(default);
        let kept = had.iter().copied().filter(|pool| self.is_of(*pool, members));
        let kept: Vec<Pool> = kept.collect();
        let kept = kept.into_iter().max_by_key(|pool| pool.length);
        let pool = self.best(kept, members);
        self.is_short |= pool.is_none_or(|pool| pool.length < default);
        pool
    }

    fn best(&mut self, kept: Option<Pool>, members: &[Member]) -> Option<Pool> {
        for each in [maglev::FINE, maglev::COARSE, maglev::LEAST] {
            let length = maglev::size(members.len(), each);
            if let Some(kept) = kept.filter(|pool| pool.length >= length) {
                return self.keep(kept);
            }
            if let Some(base) = self.free.take(length) {
                self.after.insert(base, slots(members, length));
                return Some(Pool { base, length });
            }
        }
        None
    }

    /// Keeps a pool as it was; `None` if it was not there.
    pub(super) fn keep(&mut self, pool: Pool) -> Option<Pool> {
        let slots = self.before.get(&pool.base)?;
        if slots.len() != pool.length as usize {
            return None;
        }
        self.after.insert(pool.base, Arc::clone(slots));
        Some(pool)
    }

    /// Whether a pool names all of `members` and nobody else, as evenly as choice tables do. Cheaper
    /// than making the table again.
    fn is_of(&mut self, pool: Pool, members: &[Member]) -> bool {
        let Some(slots) = self.before.get(&pool.base) else {
            return false;
        };
        let highest = members.iter().map(|member| member.id.0 as usize).max().unwrap_or(0);
        if self.counts.len() <= highest {
            self.counts.resize(highest + 1, 0);
        }
        members.iter().for_each(|member| self.counts[member.id.0 as usize] = 1);
        let all_known = slots.iter().all(|id| match self.counts.get_mut(id.0 as usize) {
            Some(count) if *count > 0 => {
                *count += 1;
                true
            }
            _ => false,
        });
        let shares =
            members.iter().map(|member| std::mem::take(&mut self.counts[member.id.0 as usize]));
        let (least, most) =
            shares.fold((u32::MAX, 0), |(least, most), share| (least.min(share), most.max(share)));
        slots.len() == pool.length as usize && all_known && least > 1 && most - least <= 1
    }

    /// The array with all pools that were asked for.
    pub(super) fn settle(self) -> BTreeMap<u32, Arc<[BackendId]>> {
        self.after
    }
}

fn slots(members: &[Member], length: u32) -> Arc<[BackendId]> {
    let keys: Vec<u64> = members.iter().map(|member| member.key).collect();
    let table = maglev::table(&keys, length);
    table.into_iter().map(|index| members[index as usize].id).collect()
}

/// The gaps between ranges in use.
struct Free {
    /// Length and first slot.
    gaps: BTreeSet<(u32, u32)>,
}

impl Free {
    fn beside(used: &BTreeMap<u32, Arc<[BackendId]>>, capacity: u32) -> Self {
        let mut gaps = BTreeSet::new();
        let mut from = 0;
        for (base, slots) in used {
            if *base > from {
                gaps.insert((base - from, from));
            }
            // Ranges overlap only if somebody else wrote to the maps.
            from = from.max(base.saturating_add(slots.len() as u32));
        }
        if capacity > from {
            gaps.insert((capacity - from, from));
        }
        Self { gaps }
    }

    /// The first `length` slots of the smallest gap that has as many: large gaps are left for large
    /// pools.
    fn take(&mut self, length: u32) -> Option<u32> {
        let (gap, base) = self.gaps.range((length, 0)..).next().copied()?;
        self.gaps.remove(&(gap, base));
        if gap > length {
            self.gaps.insert((gap - length, base + length));
        }
        Some(base)
    }
}
