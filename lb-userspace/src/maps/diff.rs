//! The writes from what the maps hold to what they should hold, in an order that is safe for packets:
//! after *every* prefix of [`diff`] each frontend leads to its old or to its new backends, because
//! entries are written before others refer to them, and removed after.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{V4, V6};
use lb_common::backend::Backend;
use lb_common::service::{IpPolicy, ServiceId, ServiceLabel};
use lb_common::source_range::{LISTED, SourceRange};

use super::contents::{Contents, InContents};
use super::operation::{FamilyOperation, Operation};

/// The writes that turn `before` into `after`; none if they are equal.
///
/// ```
/// use lb_common::backend::BackendId;
/// use lb_userspace::maps::{Contents, Operation, PoolSlots, diff};
///
/// let before = Contents::default();
/// let mut after = before.clone();
/// after.slots.insert(0, PoolSlots::of([BackendId(1), BackendId(2)]));
/// after.filter.insert(7, 0b1001);
/// let operations = diff(&before, &after);
/// // The filter is widened before anything can be looked up that it must let pass.
/// assert!(matches!(operations[0], Operation::Filter { word: 7, bits: 0b1001 }));
/// assert!(matches!(operations[1], Operation::Slots { base: 0, .. }));
/// // Applied one after the other they lead from one to the other.
/// let mut contents = before;
/// operations.iter().for_each(|operation| contents.apply(operation));
/// assert_eq!(contents, after);
/// ```
#[must_use]
pub fn diff(before: &Contents, after: &Contents) -> Vec<Operation> {
    let mut operations = Vec::new();
    if before.settings != after.settings {
        operations.push(Operation::Settings(after.settings));
    }
    written(&before.devices, &after.devices, Operation::Device, &mut operations);
    written(&before.services, &after.services, service, &mut operations);
    filter_widened(before, after, &mut operations);
    backends_added::<V4>(before, after, &mut operations);
    backends_added::<V6>(before, after, &mut operations);
    slots_filled(before, after, &mut operations);
    source_ranges_added::<V4>(before, after, &mut operations);
    source_ranges_added::<V6>(before, after, &mut operations);
    policies_removed::<V4>(before, after, &mut operations);
    policies_removed::<V6>(before, after, &mut operations);
    // From here on, frontends refer to the new entries ...
    frontends_written::<V4>(before, after, &mut operations);
    frontends_written::<V6>(before, after, &mut operations);
    frontends_removed::<V4>(before, after, &mut operations);
    frontends_removed::<V6>(before, after, &mut operations);
    // ... and no longer to the stale ones.
    policies_added::<V4>(before, after, &mut operations);
    policies_added::<V6>(before, after, &mut operations);
    source_ranges_removed::<V4>(before, after, &mut operations);
    source_ranges_removed::<V6>(before, after, &mut operations);
    slots_freed(before, after, &mut operations);
    backends_removed::<V4>(before, after, &mut operations);
    backends_removed::<V6>(before, after, &mut operations);
    filter_narrowed(before, after, &mut operations);
    removed(&before.services, &after.services, service, &mut operations);
    removed(&before.devices, &after.devices, Operation::Device, &mut operations);
    operations
}

fn service(id: ServiceId, label: Option<ServiceLabel>) -> Operation {
    Operation::Service(id, label.map(Box::new))
}

fn written<K: Ord + Copy, V: PartialEq + Copy>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    operation: impl Fn(K, Option<V>) -> Operation,
    operations: &mut Vec<Operation>,
) {
    let differing = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    operations.extend(differing.map(|(key, value)| operation(*key, Some(*value))));
}

fn removed<K: Ord + Copy, V>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    operation: impl Fn(K, Option<V>) -> Operation,
    operations: &mut Vec<Operation>,
) {
    let gone = before.keys().filter(|key| !after.contains_key(key));
    operations.extend(gone.map(|key| operation(*key, None)));
}

fn frontends_written<A: InContents>(b: &Contents, a: &Contents, into: &mut Vec<Operation>) {
    let write = |frontend, row| A::operation(FamilyOperation::Frontend(frontend, row));
    written(&A::rows(b).frontends, &A::rows(a).frontends, write, into);
}

fn frontends_removed<A: InContents>(b: &Contents, a: &Contents, into: &mut Vec<Operation>) {
    let write = |frontend, row| A::operation(FamilyOperation::Frontend(frontend, row));
    removed(&A::rows(b).frontends, &A::rows(a).frontends, write, into);
}

/// Rows that differ and do not retire: new ones, and those whose endpoint has returned.
fn backends_added<A: InContents>(before: &Contents, after: &Contents, into: &mut Vec<Operation>) {
    let (before, after) = (&A::rows(before).backends, &A::rows(after).backends);
    for (id, row) in after {
        if before.get(id).is_none_or(|old| old != row && !retires(old, row)) {
            into.push(A::operation(FamilyOperation::Backend(*id, Some(*row))));
        }
    }
}

/// Rows that retire, and those that are removed.
fn backends_removed<A: InContents>(before: &Contents, after: &Contents, into: &mut Vec<Operation>) {
    let (before, after) = (&A::rows(before).backends, &A::rows(after).backends);
    for (id, old) in before {
        match after.get(id) {
            Some(row) if !retires(old, row) => {}
            row => into.push(A::operation(FamilyOperation::Backend(*id, row.copied()))),
        }
    }
}

/// Source ranges are written before the frontend that uses them.
fn source_ranges_added<A: InContents>(
    before: &Contents,
    after: &Contents,
    into: &mut Vec<Operation>,
) {
    ranges_written::<A>(before, after, |range| !is_service_cidr(range), into);
}

fn source_ranges_removed<A: InContents>(
    before: &Contents,
    after: &Contents,
    into: &mut Vec<Operation>,
) {
    ranges_removed::<A>(before, after, |range| !is_service_cidr(range), into);
}

/// IP policies and service CIDRs reject or drop what is not for a frontend: they are written after all
/// frontends, and removed before them.
fn policies_added<A: InContents>(before: &Contents, after: &Contents, into: &mut Vec<Operation>) {
    let (was, is) = (&A::rows(before).ip_policies, &A::rows(after).ip_policies);
    let added = is.iter().filter(|(address, policy)| {
        was.get(address).is_none_or(|old| old != *policy && !opens(old, policy))
    });
    into.extend(
        added.map(|(address, policy)| {
            A::operation(FamilyOperation::IpPolicy(*address, Some(*policy)))
        }),
    );
    ranges_written::<A>(before, after, is_service_cidr, into);
}

fn policies_removed<A: InContents>(before: &Contents, after: &Contents, into: &mut Vec<Operation>) {
    let (was, is) = (&A::rows(before).ip_policies, &A::rows(after).ip_policies);
    removed(
        was,
        is,
        |address, policy| A::operation(FamilyOperation::IpPolicy(address, policy)),
        into,
    );
    let opened = is
        .iter()
        .filter(|(address, policy)| was.get(address).is_some_and(|old| opens(old, policy)));
    into.extend(
        opened.map(|(address, policy)| {
            A::operation(FamilyOperation::IpPolicy(*address, Some(*policy)))
        }),
    );
    ranges_removed::<A>(before, after, is_service_cidr, into);
}

fn ranges_written<A: InContents>(
    before: &Contents,
    after: &Contents,
    is_meant: impl Fn(&SourceRange<A>) -> bool,
    into: &mut Vec<Operation>,
) {
    let (before, after) = (&A::rows(before).source_ranges, &A::rows(after).source_ranges);
    let added = after.keys().filter(|range| !before.contains_key(range) && is_meant(range));
    into.extend(
        added.map(|range| A::operation(FamilyOperation::SourceRange(*range, Some(LISTED)))),
    );
}

fn ranges_removed<A: InContents>(
    before: &Contents,
    after: &Contents,
    is_meant: impl Fn(&SourceRange<A>) -> bool,
    into: &mut Vec<Operation>,
) {
    let (before, after) = (&A::rows(before).source_ranges, &A::rows(after).source_ranges);
    let gone = before.keys().filter(|range| !after.contains_key(range) && is_meant(range));
    into.extend(gone.map(|range| A::operation(FamilyOperation::SourceRange(*range, None))));
}

/// Whether an address stops rejecting, as when its Service changes to another proxy.
const fn opens(old: &IpPolicy, policy: &IpPolicy) -> bool {
    old.rejects() && !policy.rejects()
}

fn is_service_cidr<A: InContents>(range: &SourceRange<A>) -> bool {
    range.service == SourceRange::<A>::CLUSTER
}

fn retires<A>(old: &Backend<A>, row: &Backend<A>) -> bool {
    old.is_serving() && !row.is_serving()
}

fn filter_widened(before: &Contents, after: &Contents, operations: &mut Vec<Operation>) {
    for (word, bits) in &after.filter {
        let old = before.filter.get(word).copied().unwrap_or(0);
        if old | bits != old {
            let bits = old | bits;
            operations.push(Operation::Filter { word: *word, bits });
        }
    }
}

fn filter_narrowed(before: &Contents, after: &Contents, operations: &mut Vec<Operation>) {
    for (word, old) in &before.filter {
        let bits = after.filter.get(word).copied().unwrap_or(0);
        if old & !bits != 0 {
            operations.push(Operation::Filter { word: *word, bits });
        }
    }
}

fn slots_filled(before: &Contents, after: &Contents, operations: &mut Vec<Operation>) {
    for (base, slots) in &after.slots {
        if before.slots.get(base) != Some(slots) {
            operations.push(Operation::Slots { base: *base, slots: Some(slots.clone()) });
        }
    }
}

fn slots_freed(before: &Contents, after: &Contents, operations: &mut Vec<Operation>) {
    let kept: BTreeSet<&u32> = after.slots.keys().collect();
    for base in before.slots.keys().filter(|base| !kept.contains(base)) {
        operations.push(Operation::Slots { base: *base, slots: None });
    }
}
