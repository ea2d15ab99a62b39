//! Which clients may use a Service's load balancer addresses (`loadBalancerSourceRanges`), and the
//! cluster's service CIDRs, which are in the same map.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::address::{Address, Family};
use lb_common::service::ServiceId;
use lb_common::source_range::SourceRange;

use crate::model::{Cluster, Service};

/// The rows that permit clients of family `A` at the load balancer addresses of `service`, whose
/// port has this id; `None` if all clients are permitted. As for kube-proxy, a family without ranges
/// is not restricted, and neither is one with a range that contains every address.
pub(super) fn restriction<A: Address>(
    service: &Service,
    id: ServiceId,
) -> Option<BTreeSet<SourceRange<A>>> {
    let ranges = service.source_ranges.as_ref()?;
    let ours: Vec<&IpNet> = ranges.iter().filter(|range| is_of::<A>(range)).collect();
    let is_open = ours.is_empty() && !ranges.is_empty();
    if is_open || ours.iter().any(|range| range.prefix_len() == 0) {
        return None;
    }
    Some(ours.into_iter().filter_map(|range| row(id, range)).collect())
}

/// The rows of the cluster's service CIDRs of family `A`.
pub(super) fn of_cluster<A: Address>(cluster: &Cluster) -> BTreeSet<SourceRange<A>> {
    let ranges = cluster.service_cidrs.values().flatten().filter(|range| is_of::<A>(range));
    ranges.filter_map(|range| row(SourceRange::<A>::CLUSTER, range)).collect()
}

fn is_of<A: Address>(range: &IpNet) -> bool {
    Family::of(&range.addr()) == A::FAMILY
}

fn row<A: Address>(id: ServiceId, range: &IpNet) -> Option<SourceRange<A>> {
    Some(SourceRange::new(id, A::from_ip(range.network())?, range.prefix_len()))
}

/// Removes from `wanted` what does not fit into a map that holds `before` and has room for so many more;
/// returns whether that is anything. Clients in a range that is left out are not permitted; service
/// CIDRs come first.
pub(super) fn fit<A: Address>(
    wanted: &mut BTreeMap<SourceRange<A>, u32>,
    before: &BTreeMap<SourceRange<A>, u32>,
    room: usize,
) -> bool {
    let mut new: Vec<SourceRange<A>> = {
        let new = wanted.keys().filter(|range| !before.contains_key(range));
        new.copied().collect()
    };
    if new.len() <= room {
        return false;
    }
    new.sort_unstable_by_key(|range| (range.service, *range));
    for range in new.split_off(room) {
        wanted.remove(&range);
    }
    true
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;
    use lb_common::source_range::LISTED;

    use super::*;

    fn range(service: u32, last: u8) -> SourceRange<V4> {
        SourceRange::of(ServiceId(service), V4([192, 0, 2, last]))
    }

    fn listed<const N: usize>(ranges: [SourceRange<V4>; N]) -> BTreeMap<SourceRange<V4>, u32> {
        ranges.map(|range| (range, LISTED)).into()
    }

    #[test]
    fn ranges_that_do_not_fit_are_left_out_service_cidrs_last() {
        let before = listed([range(3, 1), range(3, 2)]);
        let all = listed([range(3, 1), range(2, 1), range(2, 2), range(0, 1)]);
        let mut wanted = all.clone();
        assert!(fit(&mut wanted, &before, 2));
        assert_eq!(wanted, listed([range(3, 1), range(2, 1), range(0, 1)]));
        let mut wanted = all.clone();
        assert!(!fit(&mut wanted, &before, 3));
        assert_eq!(wanted, all);
    }
}
