//! The rows of the maps by Service, and what is unused.

use std::collections::{BTreeSet, HashMap};

use lb_common::address::{V4, V6};
use lb_common::backend::BackendId;
use lb_common::service::{ServiceId, ServiceLabel};

use super::family::FamilyIndex;
use super::gaps::Gaps;
use super::sorted_set::SortedSet;
use crate::maps::contents::InContents;
use crate::maps::{
    BackendSet, Contents, FamilyContents, FamilyOperation, FilterBits, FilterCounts, Operation,
    PoolSlots, References,
};
use crate::model::Name;

/// An index of what the maps hold, kept with every operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContentsIndex {
    /// The ids of each Service's ports, by their labels.
    ids: HashMap<Name, SortedSet<ServiceId>>,
    /// Ids of Service ports without a label or row.
    unused_ids: Gaps,
    v4: FamilyIndex<V4>,
    v6: FamilyIndex<V6>,
    /// Slots that are in no pool.
    slots: Gaps,
    /// Bits of the filter that rows need.
    filter: FilterCounts,
}

/// Access to one family's rows in the index.
pub trait InIndex: InContents {
    /// This family's.
    fn index(index: &ContentsIndex) -> &FamilyIndex<Self>;
}

impl InIndex for V4 {
    fn index(index: &ContentsIndex) -> &FamilyIndex<Self> {
        &index.v4
    }
}

impl InIndex for V6 {
    fn index(index: &ContentsIndex) -> &FamilyIndex<Self> {
        &index.v6
    }
}

impl ContentsIndex {
    /// The index of `contents`, with so many slots.
    #[must_use]
    pub fn of(contents: &Contents, slots: u32) -> Self {
        let mut index = Self {
            ids: HashMap::new(),
            unused_ids: Gaps::all(1, u32::MAX),
            v4: FamilyIndex::of(&contents.v4),
            v6: FamilyIndex::of(&contents.v6),
            slots: Gaps::all(0, slots),
            filter: FilterCounts::default(),
        };
        for (id, label) in &contents.services {
            index.ids.entry(name(label)).or_default().insert(*id);
            index.unused_ids.take(id.0, 1);
        }
        for id in index.v4.services().chain(index.v6.services()) {
            index.unused_ids.take(id.0, 1);
        }
        for (base, slots) in &contents.slots {
            index.slots.take(*base, slots.len());
        }
        let positions = contents.v4.positions().chain(contents.v6.positions());
        positions.for_each(|position| index.filter.add(position));
        index
    }
}

impl ContentsIndex {
    /// Follows an operation on `before`, which does not hold it yet.
    pub fn apply(&mut self, operation: &Operation, before: &Contents) {
        match operation {
            Operation::Service(id, label) => {
                if let Some(old) = before.services.get(id) {
                    self.remove_label(*id, old);
                }
                if let Some(label) = label {
                    self.ids.entry(name(label)).or_default().insert(*id);
                    self.unused_ids.take(id.0, 1);
                }
            }
            Operation::V4(operation) => {
                self.filter.follow(operation, &before.v4);
                self.v4.apply(operation, &before.v4);
                self.follow_services(operation, &before.v4, before);
            }
            Operation::V6(operation) => {
                self.filter.follow(operation, &before.v6);
                self.v6.apply(operation, &before.v6);
                self.follow_services(operation, &before.v6, before);
            }
            Operation::Slots { base, slots } => {
                if let Some(old) = before.slots.get(base) {
                    self.slots.give_back(*base, old.len());
                }
                self.slots.take(*base, slots.as_ref().map_or(0, PoolSlots::len));
            }
            Operation::Filter { .. } | Operation::Device(..) | Operation::Settings(_) => {}
        }
    }

    /// The rows of `all` that are of these Services, without the addresses' policies.
    pub fn rows_of<'n>(
        &self,
        services: impl Iterator<Item = &'n Name>,
        all: &Contents,
    ) -> Contents {
        let ids: BTreeSet<ServiceId> =
            services.filter_map(|name| self.ids.get(name)).flatten().copied().collect();
        let labels = ids.iter().filter_map(|id| Some((*id, *all.services.get(id)?)));
        let mut of = Contents {
            services: labels.collect(),
            v4: self.v4.rows_of(&ids, &all.v4),
            v6: self.v6.rows_of(&ids, &all.v6),
            ..Contents::default()
        };
        let pools = of.v4.pools().chain(of.v6.pools()).map(|(_, pool)| pool.base);
        let slots = pools.filter_map(|base| Some((base, all.slots.get(&base)?.clone())));
        of.slots = slots.collect();
        of
    }

    /// What is kept for conntrack entries alone: see [`Contents::kept_for_flows`].
    #[must_use]
    pub fn kept_for_flows(&self, contents: &Contents) -> References {
        let backends = BackendSet {
            v4: retired(&self.v4, self.v4.idle(), contents),
            v6: retired(&self.v6, self.v6.idle(), contents),
        };
        let filter = FilterBits::of_words(&contents.filter).without(self.filter.bits());
        References { backends, filter }
    }

    /// Those of `backends` that are retired: see [`Contents::retired`].
    pub fn retired_among(&self, backends: &BackendSet, contents: &Contents) -> BackendSet {
        let (v4, v6) = (backends.v4.iter().copied(), backends.v6.iter().copied());
        BackendSet {
            v4: retired(&self.v4, v4.filter(|id| self.v4.is_idle(*id)), contents),
            v6: retired(&self.v6, v6.filter(|id| self.v6.is_idle(*id)), contents),
        }
    }

    /// The bits of the filter that rows need.
    #[must_use]
    pub fn needed_filter(&self) -> &FilterBits {
        self.filter.bits()
    }

    /// The Service of each of these backends; `None` if one has no label.
    #[must_use]
    pub fn services_of(
        &self,
        backends: &BackendSet,
        contents: &Contents,
    ) -> Option<BTreeSet<Name>> {
        let v4 = backends.v4.iter().filter_map(|id| Some(contents.v4.backends.get(id)?.service));
        let v6 = backends.v6.iter().filter_map(|id| Some(contents.v6.backends.get(id)?.service));
        v4.chain(v6).map(|id| contents.services.get(&id).map(name)).collect()
    }

    /// Ids of Service ports without a label or row, the lowest first.
    pub fn unused_ids(&self) -> impl Iterator<Item = ServiceId> {
        self.unused_ids.numbers().map(ServiceId)
    }

    /// Slots that are in no pool.
    pub const fn unused_slots(&self) -> &Gaps {
        &self.slots
    }

    fn remove_label(&mut self, id: ServiceId, label: &ServiceLabel) {
        let name = name(label);
        if let Some(ids) = self.ids.get_mut(&name) {
            ids.remove(&id);
            if ids.is_empty() {
                self.ids.remove(&name);
            }
        }
        if !self.v4.has(id) && !self.v6.has(id) {
            self.unused_ids.give_back(id.0, 1);
        }
    }

    /// Whether the id of the row before, and that of the row after, has a row or label.
    fn follow_services<A: InContents>(
        &mut self,
        operation: &FamilyOperation<A>,
        of_family: &FamilyContents<A>,
        before: &Contents,
    ) {
        let (old, new) = match operation {
            FamilyOperation::Frontend(key, row) => {
                (of_family.frontends.get(key).map(|row| row.service), row.map(|row| row.service))
            }
            FamilyOperation::Backend(id, row) => {
                (of_family.backends.get(id).map(|row| row.service), row.map(|row| row.service))
            }
            FamilyOperation::SourceRange(range, Some(_)) => (None, Some(range.service)),
            FamilyOperation::SourceRange(range, None) => (Some(range.service), None),
            FamilyOperation::IpPolicy(..) => (None, None),
        };
        for id in old.into_iter().chain(new).filter(|id| id.0 > 0) {
            if self.v4.has(id) || self.v6.has(id) || before.services.contains_key(&id) {
                self.unused_ids.take(id.0, 1);
            } else {
                self.unused_ids.give_back(id.0, 1);
            }
        }
    }
}

/// Those of the `idle` backends that are in no pool; one may still be where slots had run out.
fn retired<A: InContents>(
    index: &FamilyIndex<A>,
    idle: impl Iterator<Item = BackendId>,
    contents: &Contents,
) -> BTreeSet<BackendId> {
    let rows = A::rows(contents);
    let mut by_service: HashMap<ServiceId, Vec<BackendId>> = HashMap::new();
    for id in idle {
        if let Some(row) = rows.backends.get(&id) {
            by_service.entry(row.service).or_default().push(id);
        }
    }
    let mut retired = BTreeSet::new();
    for (service, ids) in by_service {
        let pools: BTreeSet<u32> = index.pools(service, rows).map(|pool| pool.base).collect();
        let slots = pools.iter().filter_map(|base| contents.slots.get(base));
        let in_pools: BTreeSet<BackendId> = slots.flat_map(PoolSlots::backends).collect();
        retired.extend(ids.into_iter().filter(|id| !in_pools.contains(id)));
    }
    retired
}

fn name(label: &ServiceLabel) -> Name {
    let (namespace, name, _) = label.names();
    Name::new(namespace, name)
}
