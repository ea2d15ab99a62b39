//! The agent's decisions: [`Agent::on`] takes an [`Event`] and returns [`Effect`]s. It does no I/O and
//! reads no clock: the event loop does both for it.
//!
//! Start, change, failure, tampering and retry are one path: plan, diff against what the maps hold,
//! write. What a write did not reach is simply still different when the next plan is made.

mod event;

use std::sync::Arc;
use std::time::Duration;

use crate::maps::{Contents, MapError, Operation, References, diff};
use crate::model::{Change, Cluster, HealthChecks, LocalNode, Warning};
use crate::plan::{Settings, health_checks, plan};

pub use self::event::{Effect, Event};

/// Changes that come within this time of the first are planned together: a deployment changes many
/// endpoints at once.
pub const COALESCE: Duration = Duration::from_millis(50);

/// How long a failed write waits at first; twice as long after each further failure.
pub const RETRY: Duration = Duration::from_millis(100);

/// How long it waits at most.
pub const RETRY_AT_MOST: Duration = Duration::from_secs(30);

/// What the agent knows of the cluster, the node and the maps.
#[derive(Debug)]
pub struct Agent {
    cluster: Cluster,
    node: LocalNode,
    /// Whether the devices in `node` are known.
    knows_devices: bool,
    settings: Settings,
    /// What the maps hold.
    contents: Contents,
    /// Whether something has changed since the last plan.
    is_behind: bool,
    /// Whether a tick is requested.
    is_tick_requested: bool,
    /// What is being written.
    writing: Option<Writing>,
    /// Writes that failed since the last that did not.
    failures: u32,
    is_ready: bool,
    /// Plans that got into the kernel as a whole.
    plans: u64,
    from_source: Vec<Warning>,
    from_plan: Vec<Warning>,
    /// Retired backends and bits of the filter that are free if the collection under way finds no flow that
    /// needs them.
    gc_candidates: Option<References>,
    /// Those that no conntrack entry refers to.
    unreferenced: References,
}

#[derive(Debug)]
struct Writing {
    operations: Arc<[Operation]>,
    /// Whether to plan again afterwards: a full map may have space then.
    plan_again: bool,
}

impl Agent {
    /// The agent of the node called `name`, whose maps hold `contents`.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings, contents: Contents) -> Self {
        Self {
            cluster: Cluster::default(),
            node: LocalNode { name: name.into(), ..LocalNode::default() },
            knows_devices: false,
            settings,
            contents,
            is_behind: false,
            is_tick_requested: false,
            writing: None,
            failures: 0,
            is_ready: false,
            plans: 0,
            from_source: Vec::new(),
            from_plan: Vec::new(),
            gc_candidates: None,
            unreferenced: References::default(),
        }
    }

    /// Takes an event in; returns what is to be done, in this order.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Cluster(mut change) => {
                self.mark_skipped(&mut change);
                self.is_behind |= self.cluster.apply(change);
                self.wake()
            }
            Event::Devices(devices) => {
                self.is_behind |= !self.knows_devices || self.node.devices != devices;
                self.knows_devices = true;
                self.node.devices = devices;
                self.wake()
            }
            Event::RoutesBySource(routes_by_source) => {
                self.is_behind |= self.node.routes_by_source != routes_by_source;
                self.node.routes_by_source = routes_by_source;
                self.wake()
            }
            Event::SnatPorts(tiers) => {
                self.is_behind |= self.settings.snat_tiers != tiers;
                self.settings.snat_tiers = tiers;
                self.wake()
            }
            Event::Source(warnings) => self.set_warnings(warnings, |agent| &mut agent.from_source),
            Event::Tick => {
                self.is_tick_requested = false;
                self.plan()
            }
            Event::Written { done, result } => self.written(done, &result),
            Event::GcStarted => {
                self.gc_candidates = Some(self.contents.kept_for_flows());
                Vec::new()
            }
            Event::GcFinished(referenced) => self.gc_finished(&referenced),
            Event::Reread(contents) => self.reread(contents),
        }
    }

    /// What the maps hold, as far as is known.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Marks the Service of a change that is left to others.
    pub fn mark_skipped(&self, change: &mut Change) {
        self.settings.skip.mark(change);
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The health-check ports of this node, each with its number of local endpoints.
    #[must_use]
    pub fn health_checks(&self) -> HealthChecks {
        health_checks(&self.cluster, &self.node, &self.settings.nodeport_addresses)
    }

    /// All warnings that hold: the source's, then the plan's.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.from_source.iter().chain(&self.from_plan)
    }

    /// Whether the first complete plan is in the kernel.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// How many plans have got into the kernel as a whole, those that changed nothing included.
    #[must_use]
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// Whether something that is known and could be planned is not in the kernel.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        (self.is_behind && self.may_plan()) || self.writing.is_some()
    }

    fn may_plan(&self) -> bool {
        self.cluster.synced && self.knows_devices
    }

    /// Requests a tick if there is something to plan, all is known that a plan needs, and nothing is
    /// under way that ends with one. After a failure the tick requested then is the one that
    /// counts: changes do not make a full map less full.
    fn wake(&mut self) -> Vec<Effect> {
        if !self.is_behind || !self.may_plan() || self.is_tick_requested || self.writing.is_some() {
            return Vec::new();
        }
        self.is_tick_requested = true;
        vec![Effect::WakeIn(COALESCE)]
    }

    fn plan(&mut self) -> Vec<Effect> {
        if !self.is_behind || self.writing.is_some() {
            return Vec::new();
        }
        self.is_behind = false;
        let unreferenced = std::mem::take(&mut self.unreferenced);
        let plan = plan(&self.cluster, &self.node, &self.settings, &self.contents, &unreferenced);
        let operations: Arc<[Operation]> = diff(&self.contents, &plan.contents).into();
        let mut effects = self.set_warnings(plan.warnings, |agent| &mut agent.from_plan);
        if operations.is_empty() {
            effects.extend(self.settled());
        } else {
            self.writing =
                Some(Writing { operations: Arc::clone(&operations), plan_again: plan.is_map_full });
            effects.push(Effect::Write(operations));
        }
        effects
    }

    fn written(&mut self, done: usize, result: &Result<(), MapError>) -> Vec<Effect> {
        let Some(writing) = self.writing.take() else {
            return Vec::new();
        };
        for operation in writing.operations.iter().take(done) {
            self.contents.apply(operation);
        }
        self.forget_needed();
        if result.is_err() {
            self.is_behind = true;
            self.is_tick_requested = true;
            // A write that got somewhere is not one that is stuck.
            self.failures = if done > 0 { 1 } else { self.failures + 1 };
            let delay = RETRY.saturating_mul(2u32.saturating_pow(self.failures - 1));
            return vec![Effect::WakeIn(delay.min(RETRY_AT_MOST))];
        }
        self.is_behind |= writing.plan_again;
        let mut effects = self.settled();
        effects.extend(self.wake());
        effects
    }

    /// The kernel holds a plan.
    fn settled(&mut self) -> Vec<Effect> {
        self.failures = 0;
        self.plans += 1;
        if std::mem::replace(&mut self.is_ready, true) { Vec::new() } else { vec![Effect::Ready] }
    }

    /// A backend that serves again, and the bits of a frontend that is there again, are no candidates for
    /// removal any more: flows to them may begin, which the collection under way need not see.
    fn forget_needed(&mut self) {
        let (v4, v6) = (&self.contents.v4.backends, &self.contents.v6.backends);
        for set in self.gc_candidates.iter_mut().chain([&mut self.unreferenced]) {
            set.backends.v4.retain(|id| v4.get(id).is_some_and(|row| !row.is_serving()));
            set.backends.v6.retain(|id| v6.get(id).is_some_and(|row| !row.is_serving()));
            if !set.filter.is_empty() {
                let filter = std::mem::take(&mut set.filter);
                set.filter = filter.without(&self.contents.needed_filter());
            }
        }
    }

    fn gc_finished(&mut self, referenced: &References) -> Vec<Effect> {
        let Some(gc_candidates) = self.gc_candidates.take() else {
            return Vec::new();
        };
        self.unreferenced = gc_candidates.without(referenced);
        self.is_behind |= !self.unreferenced.is_empty();
        self.wake()
    }

    /// Another process may have written to the maps. What was read during our own write does not count.
    fn reread(&mut self, contents: Contents) -> Vec<Effect> {
        if self.writing.is_some() || contents == self.contents {
            return Vec::new();
        }
        self.contents = contents;
        self.gc_candidates = None;
        self.unreferenced = References::default();
        self.is_behind = true;
        self.wake()
    }

    fn set_warnings(
        &mut self,
        mut warnings: Vec<Warning>,
        list: fn(&mut Self) -> &mut Vec<Warning>,
    ) -> Vec<Effect> {
        warnings.sort_unstable();
        let before = std::mem::replace(list(self), warnings);
        let new = list(self).iter().filter(|warning| before.binary_search(warning).is_err());
        new.cloned().map(Effect::Warn).collect()
    }
}

#[cfg(test)]
mod tests;
