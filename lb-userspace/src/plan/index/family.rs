//! The rows of one family by Service port.

use std::collections::{BTreeSet, HashMap};

use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId};
use lb_common::service::{Frontend, FrontendRow, Pool, ServiceId};
use lb_common::source_range::SourceRange;

use super::gaps::Gaps;
use super::sorted_set::SortedSet;
use crate::maps::{FamilyContents, FamilyOperation};

/// An index of one family's rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FamilyIndex<A> {
    rows: HashMap<ServiceId, Rows<A>>,
    /// Ids without a row.
    unused: Gaps,
    /// The highest generation, and the backend that has it.
    newest: Option<(u32, BackendId)>,
    /// Backends that serve no endpoint.
    idle: BTreeSet<BackendId>,
}

/// The keys of a Service port's rows.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rows<A> {
    frontends: SortedSet<Frontend<A>>,
    backends: SortedSet<BackendId>,
    ranges: SortedSet<SourceRange<A>>,
}

impl<A: Address> FamilyIndex<A> {
    pub(super) fn of(contents: &FamilyContents<A>) -> Self {
        // Id 0 is no backend.
        let unused = Gaps::all(1, u32::MAX);
        let mut index = Self { rows: HashMap::new(), unused, newest: None, idle: BTreeSet::new() };
        let (frontends, backends) = (&contents.frontends, &contents.backends);
        frontends.iter().for_each(|(key, row)| index.add_frontend(*key, row));
        backends.iter().for_each(|(id, row)| index.add_backend(*id, row));
        contents.source_ranges.keys().for_each(|range| index.add_range(*range));
        index
    }

    /// Follows an operation on `before`.
    pub(super) fn apply(&mut self, operation: &FamilyOperation<A>, before: &FamilyContents<A>) {
        match operation {
            FamilyOperation::Frontend(key, row) => {
                if let Some(old) = before.frontends.get(key) {
                    self.remove(old.service, |rows| rows.frontends.remove(key));
                }
                row.iter().for_each(|row| self.add_frontend(*key, row));
            }
            FamilyOperation::Backend(id, row) => {
                if let Some(old) = before.backends.get(id) {
                    self.remove(old.service, |rows| rows.backends.remove(id));
                    self.idle.remove(id);
                    self.unused.give_back(id.0, 1);
                }
                row.iter().for_each(|row| self.add_backend(*id, row));
            }
            FamilyOperation::SourceRange(range, None) => {
                self.remove(range.service, |rows| rows.ranges.remove(range));
            }
            FamilyOperation::SourceRange(range, Some(_)) => self.add_range(*range),
            FamilyOperation::IpPolicy(..) => {}
        }
    }

    /// The rows of `all` that are of these Service ports.
    pub(super) fn rows_of(
        &self,
        services: &BTreeSet<ServiceId>,
        all: &FamilyContents<A>,
    ) -> FamilyContents<A> {
        let mut of = FamilyContents::default();
        for rows in services.iter().filter_map(|service| self.rows.get(service)) {
            let frontends = rows.frontends.into_iter();
            of.frontends.extend(frontends.filter_map(|key| Some((*key, *all.frontends.get(key)?))));
            let backends = rows.backends.into_iter();
            of.backends.extend(backends.filter_map(|id| Some((*id, *all.backends.get(id)?))));
            let ranges = rows.ranges.into_iter();
            of.source_ranges
                .extend(ranges.filter_map(|range| Some((*range, *all.source_ranges.get(range)?))));
        }
        of
    }

    /// The pools of a Service port.
    pub(super) fn pools(
        &self,
        service: ServiceId,
        all: &FamilyContents<A>,
    ) -> impl Iterator<Item = Pool> {
        let frontends = self.rows.get(&service).into_iter().flat_map(|rows| &rows.frontends);
        let rows = frontends.filter_map(|key| all.frontends.get(key));
        rows.flat_map(|row| row.pools).filter(|pool| pool.length > 0)
    }

    /// Whether a Service port has a row.
    pub(super) fn has(&self, service: ServiceId) -> bool {
        self.rows.contains_key(&service)
    }

    /// The Service ports with rows.
    pub(super) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.rows.keys().copied()
    }

    /// Ids of backends without a row, the lowest first.
    pub fn unused(&self) -> impl Iterator<Item = BackendId> {
        self.unused.numbers().map(BackendId)
    }

    /// The highest generation of a row.
    pub fn generation(&self) -> u32 {
        self.newest.map_or(0, |(generation, _)| generation)
    }

    /// Backends that serve no endpoint, but not the newest of all: see `Contents::retired`.
    pub fn idle(&self) -> impl Iterator<Item = BackendId> {
        let newest = self.newest.map(|(_, id)| id);
        self.idle.iter().copied().filter(move |id| Some(*id) != newest)
    }

    /// Whether a backend serves no endpoint and is not the newest.
    pub fn is_idle(&self, id: BackendId) -> bool {
        self.idle.contains(&id) && self.newest.is_none_or(|(_, newest)| newest != id)
    }

    fn add_frontend(&mut self, key: Frontend<A>, row: &FrontendRow) {
        self.rows_mut(row.service).frontends.insert(key);
    }

    fn add_backend(&mut self, id: BackendId, row: &Backend<A>) {
        self.rows_mut(row.service).backends.insert(id);
        self.unused.take(id.0, 1);
        if !row.is_serving() {
            self.idle.insert(id);
        }
        self.newest = self.newest.max(Some((row.generation, id)));
    }

    fn add_range(&mut self, range: SourceRange<A>) {
        if range.service != SourceRange::<A>::CLUSTER {
            self.rows_mut(range.service).ranges.insert(range);
        }
    }

    fn rows_mut(&mut self, service: ServiceId) -> &mut Rows<A> {
        self.rows.entry(service).or_default()
    }

    fn remove(&mut self, service: ServiceId, remove: impl FnOnce(&mut Rows<A>)) {
        if let Some(rows) = self.rows.get_mut(&service) {
            remove(rows);
            if rows.frontends.is_empty() && rows.backends.is_empty() && rows.ranges.is_empty() {
                self.rows.remove(&service);
            }
        }
    }
}

impl<A> Default for Rows<A> {
    fn default() -> Self {
        let (frontends, backends) = (SortedSet::default(), SortedSet::default());
        Self { frontends, backends, ranges: SortedSet::default() }
    }
}
