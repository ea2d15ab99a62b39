//! The difference of two clusters.

use std::collections::BTreeMap;

use crate::model::{Change, Cluster};

/// What changed from one cluster to the next.
pub(super) fn changes(before: &Cluster, after: &Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(new(&before.services, &after.services).map(|(_, new)| Change::Service(*new)));
    changes.extend(new(&before.slices, &after.slices).map(|(_, new)| Change::Slice(*new)));
    changes.extend(new(&before.nodes, &after.nodes).map(|(_, new)| Change::Node(new)));
    let ranges = new(&before.service_cidrs, &after.service_cidrs);
    changes.extend(ranges.map(|(name, new)| Change::ServiceCidr(name, new)));
    changes.extend(gone(&before.services, &after.services).map(Change::ServiceGone));
    changes.extend(gone(&before.slices, &after.slices).map(Change::SliceGone));
    changes.extend(gone(&before.nodes, &after.nodes).map(Change::NodeGone));
    let ranges = gone(&before.service_cidrs, &after.service_cidrs);
    changes.extend(ranges.map(Change::ServiceCidrGone));
    changes
}

fn new<'a, K: Ord + Clone, V: PartialEq + Clone>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> {
    let is_new = |(key, value): &(&K, &V)| before.get(key) != Some(value);
    after.iter().filter(is_new).map(|(key, value)| (key.clone(), value.clone()))
}

fn gone<'a, K: Ord + Clone, V>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> {
    before.keys().filter(|key| !after.contains_key(key)).cloned()
}
