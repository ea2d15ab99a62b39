//! Plans of what changes touched mean the same as plans of everything.

use std::collections::BTreeSet;

use lb_userspace::maps::{Contents, Operation, References, diff};
use lb_userspace::model::{Change, Cluster, Warning};
use lb_userspace::plan::{
    ClusterIndex, ContentsIndex, Planner, Settings, Touched, nodeport_addresses, plan,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::agent::changes;
use crate::clusters::{cluster, local_node, settings};
use crate::order::check_prefixes;
use crate::plans::settle;

/// Indexes and maps that follow a cluster, planning what is touched alone.
struct Follower {
    cluster: Cluster,
    cluster_index: ClusterIndex,
    contents: Contents,
    contents_index: ContentsIndex,
    warnings: BTreeSet<Warning>,
    touched: Touched,
}

impl Follower {
    fn of(cluster: Cluster) -> Self {
        let plan = settle(&cluster, &settings(), &Contents::default());
        let mut follower = Self {
            cluster_index: ClusterIndex::of(&cluster, settings().honours_external_ips),
            contents_index: ContentsIndex::of(&plan.contents, settings().capacities.slots),
            contents: plan.contents,
            warnings: plan.warnings.into_iter().collect(),
            cluster,
            touched: Touched::default(),
        };
        follower.note_node();
        follower
    }

    fn note_node(&mut self) {
        let which = settings().nodeport_addresses;
        let addresses = nodeport_addresses(&self.cluster, &local_node(), &which);
        self.cluster_index.set_node_addresses(addresses);
    }

    fn change(&mut self, change: Change) {
        self.cluster_index.apply(&mut self.cluster, change, &mut self.touched);
    }

    /// Plans what is touched; returns the operations, and whether everything had to be planned.
    fn plan(&mut self, unreferenced: &References) -> (Vec<Operation>, bool) {
        if let Some(services) =
            self.contents_index.services_of(&unreferenced.backends, &self.contents)
        {
            self.touched.add_services(services);
        }
        let settings: Settings = settings();
        let (touched, node) = (std::mem::take(&mut self.touched), local_node());
        let planner = Planner {
            cluster: &self.cluster,
            cluster_index: &self.cluster_index,
            local_node: &node,
            settings: &settings,
            contents: &self.contents,
            contents_index: &self.contents_index,
            unreferenced,
        };
        let Some(part) = planner.plan_touched(&touched, false) else {
            let plan = planner.plan();
            self.warnings = plan.warnings.into_iter().collect();
            self.note_node();
            return (diff(&self.contents, &plan.contents), true);
        };
        self.warnings.retain(|warning| !part.about.contains(&warning.about));
        self.warnings.extend(part.warnings);
        (diff(&part.before, &part.after), false)
    }

    fn write(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.contents_index.apply(operation, &self.contents);
            self.contents.apply(operation);
        }
    }

    /// Checks that a plan of everything would change nothing, and that indexes are as made anew.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let everything =
            plan(&self.cluster, &local_node(), &settings(), &self.contents, &References::default());
        prop_assert_eq!(diff(&self.contents, &everything.contents), vec![]);
        prop_assert_eq!(Vec::from_iter(self.warnings.clone()), everything.warnings);
        let fresh = ContentsIndex::of(&self.contents, settings().capacities.slots);
        prop_assert!(
            self.contents_index == fresh,
            "the index of the rows is another than a new one"
        );
        prop_assert_eq!(fresh.kept_for_flows(&self.contents), self.contents.kept_for_flows());
        let kept = std::mem::take(&mut self.cluster_index);
        self.cluster_index = ClusterIndex::of(&self.cluster, settings().honours_external_ips);
        self.note_node();
        prop_assert_eq!(&self.cluster_index, &kept);
        Ok(())
    }
}

proptest! {
    #[test]
    fn plans_of_what_is_touched_mean_the_same_as_plans_of_everything(
        a in cluster(), others in prop::collection::vec(cluster(), 1..4),
        together in prop::collection::vec(1usize..5, 1..20), collects: bool,
    ) {
        let mut follower = Follower::of(a);
        let mut together = together.into_iter().cycle();
        for next in others {
            let mut changes = changes(&follower.cluster, &next);
            while !changes.is_empty() {
                let count = together.next().unwrap_or(1).min(changes.len());
                changes.drain(..count).for_each(|change| follower.change(change));
                let kept = follower.contents.kept_for_flows();
                let unreferenced = if collects { kept } else { References::default() };
                let (operations, _) = follower.plan(&unreferenced);
                follower.write(&operations);
                follower.check()?;
            }
        }
    }
}

proptest! {
    // A case is hundreds of packets after each of dozens of operations.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_prefix_of_a_plan_of_what_is_touched_is_safe_for_new_flows(a in cluster(), b in cluster()) {
        let mut follower = Follower::of(a);
        for change in changes(&follower.cluster, &b) {
            follower.change(change);
            let (operations, _) = follower.plan(&follower.contents.kept_for_flows());
            let before = follower.contents.clone();
            follower.write(&operations);
            check_prefixes(&before, &operations, &follower.contents)?;
        }
    }
}

/// Whether Services have node ports decides on the policies of the node's addresses; here they have none.
#[test]
fn a_change_of_a_service_or_of_its_endpoints_is_no_reason_to_plan_everything() {
    let mut runner = TestRunner::deterministic();
    let mut partial = 0;
    for _ in 0..50 {
        let [a, b] = [(); 2].map(|()| cluster().new_tree(&mut runner).unwrap().current());
        let [a, b] = [a, b].map(without_node_ports);
        let mut follower = Follower::of(a);
        for change in changes(&follower.cluster, &b) {
            if matches!(change, Change::Service(_) | Change::Slice(_) | Change::SliceGone(_)) {
                follower.change(change);
                let (operations, is_whole) = follower.plan(&References::default());
                follower.write(&operations);
                assert!(!is_whole);
                partial += 1;
            }
        }
    }
    assert!(partial > 100, "{partial}");
}

fn without_node_ports(mut cluster: Cluster) -> Cluster {
    let ports = cluster.services.values_mut().flat_map(|service| &mut service.ports);
    ports.for_each(|port| port.node_port = None);
    cluster
}
