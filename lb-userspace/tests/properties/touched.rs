//! Plans of what changes touched mean the same as plans of everything.

use std::collections::BTreeSet;

use lb_common::address::{Family, Protocol};
use lb_userspace::maps::{Contents, Operation, References, diff};
use lb_userspace::model::{
    Change, Cluster, Endpoint, EndpointPort, EndpointSlice, LocalNode, Name, Service, ServicePort,
    ServiceType, TrafficPolicy, Warning,
};
use lb_userspace::plan::{ClusterIndex, ContentsIndex, Planner, Settings, Touched, plan};
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

    fn planner<'a>(
        &'a self,
        local_node: &'a LocalNode,
        settings: &'a Settings,
        unreferenced: &'a References,
    ) -> Planner<'a> {
        Planner {
            cluster: &self.cluster,
            cluster_index: &self.cluster_index,
            local_node,
            settings,
            contents: &self.contents,
            contents_index: &self.contents_index,
            unreferenced,
        }
    }

    fn note_node(&mut self) {
        let (settings, node) = (settings(), local_node());
        let nothing = References::default();
        let planner = self.planner(&node, &settings, &nothing);
        let addresses = planner.nodeport_addresses();
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
        let planner = self.planner(&node, &settings, unreferenced);
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

    /// Rows compared, and operations that are system calls, of a plan after these changes, which is written.
    fn cost(&mut self, changes: Vec<Change>) -> (usize, usize) {
        changes.into_iter().for_each(|change| self.change(change));
        let (settings, node) = (settings(), local_node());
        let nothing = References::default();
        let planner = self.planner(&node, &settings, &nothing);
        let part = planner.plan_touched(&self.touched, false).unwrap();
        self.touched = Touched::default();
        let operations = diff(&part.before, &part.after);
        self.write(&operations);
        // Slots and the filter are mapped into the agent.
        let is_mapped =
            |o: &&Operation| matches!(o, Operation::Slots { .. } | Operation::Filter { .. });
        let calls = operations.len() - operations.iter().filter(is_mapped).count();
        (part.before.rows() + part.after.rows(), calls)
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

/// So many Services with two endpoints each.
fn services(count: u32) -> Cluster {
    let mut runner = TestRunner::deterministic();
    let with_one = |cluster: &Cluster| cluster.services.len() == 1 && cluster.slices.len() == 1;
    let sample = loop {
        let sample = without_node_ports(cluster().new_tree(&mut runner).unwrap().current());
        if with_one(&sample) {
            break sample;
        }
    };
    let (service, slice) = (
        sample.services.into_values().next().unwrap(),
        sample.slices.into_values().next().unwrap(),
    );
    let mut cluster =
        Cluster { services: Default::default(), slices: Default::default(), ..sample };
    for number in 0..count {
        let name = Name::new("default", format!("many-{number}"));
        let ip = std::net::Ipv4Addr::from(0x0a60_0001 + 2 * number);
        let port =
            ServicePort { name: "http".into(), protocol: Protocol::TCP, port: 80, node_port: None };
        let service = Service {
            name: name.clone(),
            kind: ServiceType::ClusterIp,
            cluster_ips: vec![ip.into()],
            ports: vec![port],
            other_proxy: false,
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: None,
            internal_policy: TrafficPolicy::Cluster,
            ..(*service).clone()
        };
        let port = EndpointPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 };
        let slice = EndpointSlice {
            name: name.clone(),
            service: name.clone(),
            family: Family::V4,
            ports: vec![port],
            endpoints: (0..2).map(|end| ready(0x0a80_0000 + 2 * number + end)).collect(),
            ..(*slice).clone()
        };
        cluster.services.insert(name.clone(), Box::new(service));
        cluster.slices.insert(name, Box::new(slice));
    }
    cluster
}

fn ready(address: u32) -> Endpoint {
    Endpoint {
        address: std::net::Ipv4Addr::from(address).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    }
}

/// Rows that were compared, and operations that are system calls, for another endpoint of one Service; then for a new Service
/// with one endpoint; then for nothing.
fn costs(services: u32) -> [(usize, usize); 3] {
    let mut follower = Follower::of(self::services(services));
    let name = Name::new("default", "many-0");
    let mut slice = (*follower.cluster.slices[&name]).clone();
    slice.endpoints[1] = ready(0x0aff_0001);
    let other = follower.cost(vec![Change::Slice(slice.clone())]);
    let mut service = (*follower.cluster.services[&name]).clone();
    service.name = Name::new("default", "new");
    // Among theirs, as out of the cluster's range.
    service.cluster_ips = vec!["10.96.0.2".parse().unwrap()];
    slice.name = service.name.clone();
    slice.service = service.name.clone();
    slice.endpoints.truncate(1);
    let new = follower.cost(vec![Change::Service(service), Change::Slice(slice.clone())]);
    // What no row depends on.
    slice.triggered = Some(std::time::Duration::from_secs(1));
    let nothing = follower.cost(vec![Change::Slice(slice)]);
    [other, new, nothing]
}

#[test]
fn a_change_costs_the_same_among_ten_services_and_among_hundreds() {
    let costs = [10, 300].map(costs);
    assert_eq!(costs[0], costs[1]);
    let [(_, other), (_, new), (_, nothing)] = costs[0];
    // The new row, the frontend, the old row that retires.
    assert!(other <= 3, "{other}");
    // The Service's name, its backend, its frontend, its address.
    assert!(new <= 4, "{new}");
    assert_eq!(nothing, 0);
}
