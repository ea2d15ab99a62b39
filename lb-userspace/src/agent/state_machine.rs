//! The agent's decisions: [`Agent::on`] takes an [`Event`] and returns [`Effect`]s. It does no I/O and
//! reads no clock: the event loop does both for it.
//!
//! Start, change, failure, tampering and retry are one path: plan, diff against what the maps hold,
//! write. What a write did not reach is simply still different when the next plan is made.

mod event;
mod kept;
mod planning;
mod warnings;

use std::sync::Arc;
use std::time::Duration;

use crate::maps::{Contents, MapError, Operation, References};
use crate::model::{Change, Cluster, HealthChecks, LocalNode, Warning};
use crate::plan::Settings;

use self::kept::KeptForFlows;
use self::planning::{Planned, Planning};
use self::warnings::Warnings;

pub use self::event::{Effect, Event};

/// How long a failed write waits at first; twice as long after each further failure.
pub const RETRY: Duration = Duration::from_millis(100);

/// How long it waits at most.
pub const RETRY_AT_MOST: Duration = Duration::from_secs(30);

/// What the agent knows of the cluster, the node and the maps.
#[derive(Debug)]
pub struct Agent {
    planning: Planning,
    /// Whether the devices of this node are known.
    knows_devices: bool,
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
    /// How much was planned so far.
    effort: Effort,
    warnings: Warnings,
    kept: KeptForFlows,
}

/// What planning has cost since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Effort {
    /// Rows that were compared.
    pub rows: u64,
    /// Plans of everything, and not of some Services alone.
    pub of_everything: u64,
}

impl From<Effort> for [u64; 2] {
    fn from(effort: Effort) -> Self {
        [effort.rows, effort.of_everything]
    }
}

#[derive(Debug)]
struct Writing {
    operations: Arc<[Operation]>,
    /// Whether to plan again afterwards: a full map may have space then.
    plan_again: bool,
    /// Whether it is of some Services alone.
    is_partial: bool,
}

impl Agent {
    /// The agent of the node called `name`, whose maps hold `contents`.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: Settings, contents: Contents) -> Self {
        let node = LocalNode { name: name.into(), ..LocalNode::default() };
        Self {
            planning: Planning::new(node, settings, contents),
            knows_devices: false,
            is_behind: false,
            is_tick_requested: false,
            writing: None,
            failures: 0,
            is_ready: false,
            plans: 0,
            effort: Effort::default(),
            warnings: Warnings::default(),
            kept: KeptForFlows::default(),
        }
    }

    /// Takes an event in; returns what is to be done, in this order.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Cluster(mut change) => {
                self.mark_skipped(&mut change);
                self.is_behind |= self.planning.change(change);
                self.wake()
            }
            Event::Devices(devices) => {
                let were_known = std::mem::replace(&mut self.knows_devices, true);
                let is_new = self.planning.change_node(|node| node.devices = devices);
                self.is_behind |= is_new || !were_known;
                self.wake()
            }
            Event::RoutesBySource(routes_by_source) => {
                let set = |node: &mut LocalNode| node.routes_by_source = routes_by_source;
                self.is_behind |= self.planning.change_node(set);
                self.wake()
            }
            Event::SnatPorts(tiers) => {
                self.is_behind |= self.planning.set_snat_tiers(tiers);
                self.wake()
            }
            Event::Source(warnings) => self.warnings.set_of_source(warnings),
            Event::Tick => {
                self.is_tick_requested = false;
                self.plan()
            }
            Event::Written { done, result } => self.written(done, &result),
            Event::GcStarted => {
                self.kept.begin(self.planning.kept_for_flows());
                Vec::new()
            }
            Event::GcFinished(referenced) => self.gc_finished(&referenced),
            Event::Reread(contents) => self.reread(*contents),
        }
    }

    /// What the maps hold, as far as is known.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        self.planning.contents()
    }

    /// Marks the Service of a change that is left to others.
    pub fn mark_skipped(&self, change: &mut Change) {
        self.planning.settings().skip.mark(change);
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.planning.cluster()
    }

    /// The health-check ports of this node, each with its number of local endpoints, as planned last.
    #[must_use]
    pub const fn health_checks(&self) -> &HealthChecks {
        self.planning.health_checks()
    }

    /// All warnings that hold: the source's, then the plan's.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.all()
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

    /// How much was planned so far.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// Whether something that is known and could be planned is not in the kernel.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        (self.is_behind && self.may_plan()) || self.writing.is_some()
    }

    fn may_plan(&self) -> bool {
        self.planning.cluster().synced && self.knows_devices
    }

    /// Requests a tick if there is something to plan, all is known that a plan needs, and nothing is
    /// under way that ends with one. After a failure the tick requested then is the one that
    /// counts: changes do not make a full map less full.
    fn wake(&mut self) -> Vec<Effect> {
        if !self.is_behind || !self.may_plan() || self.is_tick_requested || self.writing.is_some() {
            return Vec::new();
        }
        self.is_tick_requested = true;
        vec![Effect::WakeIn(Duration::ZERO)]
    }

    fn plan(&mut self) -> Vec<Effect> {
        if !self.is_behind || self.writing.is_some() {
            return Vec::new();
        }
        self.is_behind = false;
        let Planned { operations, warnings, about, plan_again, rows } =
            self.planning.plan(&self.kept.take_unreferenced());
        let is_partial = about.is_some();
        self.effort.rows += rows as u64;
        self.effort.of_everything += u64::from(!is_partial);
        let mut effects = match &about {
            Some(about) => self.warnings.set_about(about, warnings),
            None => self.warnings.set_of_plan(warnings),
        };
        if operations.is_empty() {
            effects.extend(self.settled());
        } else {
            let operations: Arc<[Operation]> = operations.into();
            effects.push(Effect::Write(Arc::clone(&operations)));
            self.writing = Some(Writing { operations, plan_again, is_partial });
        }
        effects
    }

    fn written(&mut self, done: usize, result: &Result<(), MapError>) -> Vec<Effect> {
        let Some(writing) = self.writing.take() else {
            return Vec::new();
        };
        self.planning.written(writing.operations.iter().take(done), writing.is_partial);
        self.kept.forget_needed(self.planning.contents(), self.planning.needed_filter());
        if result.is_err() {
            // What was planned is in the maps in part, and what was touched is forgotten.
            self.planning.touch_everything();
            self.is_behind = true;
            self.is_tick_requested = true;
            // A write that got somewhere is not one that is stuck.
            self.failures = if done > 0 { 1 } else { self.failures + 1 };
            let delay = RETRY.saturating_mul(2u32.saturating_pow(self.failures - 1));
            return vec![Effect::WakeIn(delay.min(RETRY_AT_MOST))];
        }
        if writing.plan_again {
            self.planning.touch_everything();
            self.is_behind = true;
        }
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

    fn gc_finished(&mut self, referenced: &References) -> Vec<Effect> {
        self.kept.end(referenced);
        if !self.kept.unreferenced().is_empty() {
            self.planning.touch_backends(&self.kept.unreferenced().backends);
            self.is_behind = true;
        }
        self.wake()
    }

    /// Another process may have written to the maps. What was read during our own write does not count.
    fn reread(&mut self, contents: Contents) -> Vec<Effect> {
        if self.writing.is_some() {
            return Vec::new();
        }
        if contents != *self.planning.contents() {
            self.planning.replace_contents(contents);
            self.kept = KeptForFlows::default();
            self.is_behind = true;
        } else if self.planning.has_small_pools() {
            // There may be slots for larger ones by now.
            self.planning.touch_everything();
            self.is_behind = true;
        }
        self.wake()
    }
}

#[cfg(test)]
mod tests;
