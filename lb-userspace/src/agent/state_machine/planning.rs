//! What plans are made from, what changes have touched of it, and the next plan.

use std::collections::BTreeSet;

use lb_common::snat::{Rows, TIERS};

use crate::maps::{BackendSet, Contents, FilterBits, Operation, PoolSlots, References, diff};
use crate::model::{Change, Cluster, HealthChecks, LocalNode, Warning};
use crate::plan::{
    ClusterIndex, ContentsIndex, PartialPlan, Planner, Settings, Touched, has_same_addresses,
};

/// The cluster, this node, and what the maps hold, with indexes of them.
#[derive(Debug)]
pub struct Planning {
    cluster: Cluster,
    cluster_index: ClusterIndex,
    node: LocalNode,
    settings: Settings,
    /// What the maps hold.
    contents: Contents,
    contents_index: ContentsIndex,
    /// What has changed since the last plan.
    touched: Touched,
    shortage: Shortage,
    /// Whether the last plan of everything was to be followed by another one, for the slots that it freed.
    is_for_freed_slots: bool,
    /// The health-check ports of this node, as planned last.
    health_checks: HealthChecks,
}

/// What maps were too small for when everything was planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shortage {
    None,
    /// Pools have fewer slots than they should.
    Slots,
    /// Rows are left out. Which ones is decided over all Services.
    Rows,
}

/// The next plan.
pub struct Planned {
    /// The writes to get there.
    pub operations: Vec<Operation>,
    /// What could not be honoured.
    pub warnings: Vec<Warning>,
    /// The objects of a plan of some Services, whose warnings are replaced; `None` if everything was planned.
    pub about: Option<BTreeSet<String>>,
    /// Whether to plan again afterwards: a full map may have space then.
    pub plan_again: bool,
    /// How many rows were compared.
    pub rows: usize,
}

impl Planning {
    /// Of a cluster of which nothing is known, where the maps hold `contents`.
    pub fn new(node: LocalNode, settings: Settings, mut contents: Contents) -> Self {
        contents.slots.values_mut().for_each(PoolSlots::forget_ids);
        Self {
            cluster: Cluster::default(),
            cluster_index: ClusterIndex::new(settings.honours_external_ips),
            node,
            contents_index: ContentsIndex::of(&contents, settings.capacities.slots),
            settings,
            contents,
            touched: Touched::everything(),
            shortage: Shortage::None,
            is_for_freed_slots: false,
            health_checks: HealthChecks::new(),
        }
    }

    /// Takes a change of the cluster in; returns whether it changed anything.
    pub fn change(&mut self, change: Change) -> bool {
        self.cluster_index.apply(&mut self.cluster, change, &mut self.touched)
    }

    /// Changes this node; returns whether that changed anything.
    pub fn change_node(&mut self, change: impl FnOnce(&mut LocalNode)) -> bool {
        let before = self.node.clone();
        change(&mut self.node);
        if self.node == before {
            return false;
        }
        // Which way packets go is in the settings, which each plan compares.
        if has_same_addresses(&self.cluster, &before, &self.node) {
            self.touched.add_devices();
        } else {
            self.touch_everything();
        }
        true
    }

    /// Sets the source ports for SNAT; returns whether they are others.
    pub fn set_snat_tiers(&mut self, tiers: [Rows; TIERS]) -> bool {
        // They are in the settings, which each plan compares.
        std::mem::replace(&mut self.settings.snat_tiers, tiers) != tiers
    }

    /// The next plan is of everything.
    pub fn touch_everything(&mut self) {
        self.touched.add_everything();
    }

    /// The next plan is of the Services of these backends, too.
    pub fn touch_backends(&mut self, backends: &BackendSet) {
        match self.contents_index.services_of(backends, &self.contents) {
            Some(services) => self.touched.add_services(services),
            None => self.touch_everything(),
        }
    }

    /// Plans what is touched.
    pub fn plan(&mut self, unreferenced: &References) -> Planned {
        let touched = std::mem::take(&mut self.touched);
        let mut health_checks = std::mem::take(&mut self.health_checks);
        self.planner(unreferenced).update_health_checks(&touched, &mut health_checks);
        self.health_checks = health_checks;
        let part = match self.shortage {
            Shortage::Rows => None,
            Shortage::None => self.planner(unreferenced).plan_touched(&touched, false),
            Shortage::Slots => self.planner(unreferenced).plan_touched(&touched, true),
        };
        let Some(PartialPlan { before, after, warnings, about }) = part else {
            return self.plan_everything(unreferenced);
        };
        let (operations, rows) = (diff(&before, &after), before.rows() + after.rows());
        Planned { operations, warnings, about: Some(about), plan_again: false, rows }
    }

    fn plan_everything(&mut self, unreferenced: &References) -> Planned {
        let node_addresses = self.planner(unreferenced).nodeport_addresses();
        self.cluster_index.set_node_addresses(node_addresses);
        let plan = self.planner(unreferenced).plan();
        self.shortage = match (plan.is_left_out, plan.is_map_full) {
            (true, _) => Shortage::Rows,
            (false, true) => Shortage::Slots,
            (false, false) => Shortage::None,
        };
        // Once: while changes go on, each plan frees slots, and there would be no end.
        let operations = diff(&self.contents, &plan.contents);
        self.is_for_freed_slots =
            self.shortage == Shortage::Slots && !self.is_for_freed_slots && !operations.is_empty();
        Planned {
            operations,
            warnings: plan.warnings,
            about: None,
            plan_again: plan.is_left_out || self.is_for_freed_slots,
            rows: self.contents.rows() + plan.contents.rows(),
        }
    }

    fn planner<'a>(&'a self, unreferenced: &'a References) -> Planner<'a> {
        Planner {
            cluster: &self.cluster,
            cluster_index: &self.cluster_index,
            local_node: &self.node,
            settings: &self.settings,
            contents: &self.contents,
            contents_index: &self.contents_index,
            unreferenced,
        }
    }

    /// These operations, of a plan of some Services or of everything, are in the maps.
    pub fn written<'a>(
        &mut self,
        operations: impl Iterator<Item = &'a Operation>,
        is_partial: bool,
    ) {
        for operation in operations {
            if is_partial {
                self.contents_index.apply(operation, &self.contents);
            }
            self.contents.apply(operation);
            if let Operation::Slots { base, .. } = operation
                && let Some(slots) = self.contents.slots.get_mut(base)
            {
                slots.forget_ids();
            }
        }
        if !is_partial {
            self.contents.compact();
            self.index_contents();
        }
    }

    /// The maps hold something else than was written.
    pub fn replace_contents(&mut self, mut contents: Contents) {
        contents.slots.values_mut().for_each(PoolSlots::forget_ids);
        self.contents = contents;
        self.index_contents();
        self.touch_everything();
    }

    fn index_contents(&mut self) {
        self.contents_index = ContentsIndex::of(&self.contents, self.settings.capacities.slots);
    }

    /// Whether pools have fewer slots than they should.
    pub fn has_small_pools(&self) -> bool {
        self.shortage == Shortage::Slots
    }

    /// What is kept for conntrack entries alone.
    pub fn kept_for_flows(&self) -> References {
        self.contents_index.kept_for_flows(&self.contents)
    }

    /// The bits of the filter that rows need.
    pub fn needed_filter(&self) -> &FilterBits {
        self.contents_index.needed_filter()
    }

    /// The health-check ports of this node, as planned last.
    pub const fn health_checks(&self) -> &HealthChecks {
        &self.health_checks
    }

    /// What the maps hold.
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// What is known of the cluster.
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The operator's settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
}
