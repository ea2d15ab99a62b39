//! Invariants of plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::address::{Address, Port, Protocol};
use lb_common::backend::BackendId;
use lb_common::service::{Pool, ServiceId};
use lb_userspace::maps::contents::InContents;
use lb_userspace::maps::{Contents, FamilyContents, Operation, PoolSlots, References, diff};
use lb_userspace::model::{Cluster, Name};
use lb_userspace::plan::{Plan, Settings, plan};
use proptest::prelude::*;

use crate::clusters::{cluster, local_node, settings, tight};

/// Plans and writes until nothing is left to write; panics if that never comes.
pub fn settle(cluster: &Cluster, settings: &Settings, before: &Contents) -> Plan {
    let mut contents = before.clone();
    for _ in 0..20 {
        let plan = plan(cluster, &local_node(), settings, &contents, &References::default());
        let operations = diff(&contents, &plan.contents);
        if operations.is_empty() || !plan.is_map_full {
            return plan;
        }
        for operation in &operations {
            contents.apply(operation);
            check_room(&contents, settings);
        }
    }
    panic!("twenty plans, each with something to write");
}

fn check_room(contents: &Contents, settings: &Settings) {
    let room = settings.capacities;
    assert!(contents.services.len() <= room.services as usize, "services");
    let mut end = 0;
    for (base, slots) in &contents.slots {
        assert!(*base >= end, "pools overlap at {base}");
        end = base + slots.len();
    }
    assert!(end <= room.slots, "slots");
    check_family_room(&contents.v4, settings);
    check_family_room(&contents.v6, settings);
}

fn check_family_room<A: Address>(rows: &FamilyContents<A>, settings: &Settings) {
    let room = settings.capacities;
    assert!(rows.frontends.len() <= room.frontends as usize, "frontends");
    let ids = rows.backends.keys();
    assert!(ids.clone().all(|id| (1..room.backends).contains(&id.0)), "backends {ids:?}");
}

/// The contents as the kernel's maps give them back: of the slots only what a frontend names.
fn read_back(contents: &Contents) -> Contents {
    let flat = |index: u32| lb_ebpf::world::Tables::<lb_common::address::V4>::slot(contents, index);
    let pools = contents.v4.pools().chain(contents.v6.pools()).map(|(_, pool)| pool);
    let slots = |pool: Pool| -> Arc<[BackendId]> {
        (pool.base..pool.base + pool.length).map(|index| flat(index).unwrap()).collect()
    };
    let slots = pools.map(|pool| (pool.base, PoolSlots::of(slots(pool)))).collect();
    Contents { slots, ..contents.clone() }
}

fn owners<A: Address>(rows: &FamilyContents<A>) -> BTreeMap<u32, BTreeSet<ServiceId>> {
    let mut owners: BTreeMap<u32, BTreeSet<ServiceId>> = BTreeMap::new();
    for (service, pool) in rows.pools() {
        owners.entry(pool.base).or_default().insert(service);
    }
    owners
}

fn backends<A: InContents>(
    contents: &Contents,
) -> BTreeMap<(ServiceId, A, Port, Protocol), (BackendId, u32)> {
    let rows = A::rows(contents).backends.iter();
    rows.map(|(id, row)| {
        ((row.service, row.address, row.port, row.protocol), (*id, row.generation))
    })
    .collect()
}

proptest! {
    #[test]
    fn a_plan_of_its_own_output_changes_nothing(a in cluster(), b in cluster()) {
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = settle(&b, &settings(), &before);
        prop_assert!(!after.is_map_full);
        let again = plan(&b, &local_node(), &settings(), &after.contents, &References::default());
        prop_assert_eq!(diff(&after.contents, &again.contents), Vec::<Operation>::new());
        prop_assert_eq!(again.warnings, after.warnings);
    }

    #[test]
    fn a_restart_writes_nothing(a in cluster(), b in cluster()) {
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = settle(&b, &settings(), &before).contents;
        let read = read_back(&after);
        prop_assert_eq!(&read, &after);
        let again = plan(&b, &local_node(), &settings(), &read, &References::default());
        prop_assert_eq!(diff(&read, &again.contents), Vec::<Operation>::new());
    }

    #[test]
    fn pools_of_different_services_never_overlap(a in cluster(), b in cluster()) {
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = settle(&b, &settings(), &before).contents;
        check_room(&after, &settings());
        let (v4, v6) = (owners(&after.v4), owners(&after.v6));
        prop_assert!(v4.values().chain(v6.values()).all(|services| services.len() == 1));
        prop_assert!(v4.keys().all(|base| !v6.contains_key(base)));
    }

    #[test]
    fn maps_never_hold_more_than_they_can_and_plans_come_to_an_end(
        a in cluster(), b in cluster(), tight in tight(),
    ) {
        let before = settle(&a, &tight, &Contents::default()).contents;
        check_room(&before, &tight);
        let after = settle(&b, &tight, &before);
        check_room(&after.contents, &tight);
        prop_assert!(!after.is_map_full || after.warnings.iter().any(|r| r.text.contains("-table-size")));
    }

    #[test]
    fn ids_do_not_depend_on_other_services(a in cluster(), b in cluster()) {
        let mut both = a.clone();
        let theirs = |name: &Name| Name::new("aaa", name.name.clone());
        for service in b.services.values() {
            let mut service = service.clone();
            service.name = theirs(&service.name);
            service.cluster_ips = vec!["10.97.0.1".parse().unwrap()];
            both.services.insert(service.name.clone(), service);
        }
        for slice in b.slices.values() {
            let mut slice = slice.clone();
            slice.name = theirs(&slice.name);
            slice.service = theirs(&slice.service);
            both.slices.insert(slice.name.clone(), slice);
        }
        let before = settle(&a, &settings(), &Contents::default()).contents;
        let after = settle(&both, &settings(), &before).contents;
        for (id, label) in &before.services {
            prop_assert_eq!(after.services.get(id), Some(label));
        }
        let (was, is) = (backends::<lb_common::address::V4>(&before), backends(&after));
        prop_assert!(was.iter().all(|(identity, id)| is.get(identity) == Some(id)));
    }
}
