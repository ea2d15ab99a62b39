//! What the agent reports of itself, as metrics and health.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{collections::BTreeSet, mem};

use tokio::sync::watch;

use crate::maps::MapError;
use crate::maps::conntrack_gc::GcRun;
use crate::model::{Change, Name, Node};

use super::health::{Health, Moment};
use super::metrics::{self, Metrics};

/// What the agent reports of itself.
#[derive(Debug)]
pub struct Observer {
    metrics: Metrics,
    health: watch::Sender<Health>,
    /// When it began to watch: what the cluster did before is not its slowness.
    started: SystemTime,
    /// What changed since the last plan was in the kernel.
    pending: Pending,
}

#[derive(Debug, Default)]
struct Pending {
    services: BTreeSet<Name>,
    slices: BTreeSet<Name>,
    /// When what the slices follow happened, since 1970.
    triggers: Vec<Duration>,
    /// When the first change came.
    since: Option<Moment>,
}

impl Observer {
    /// Of an agent that starts `now`, and is like `health`.
    #[must_use]
    pub fn new(health: Health, now: Moment) -> Self {
        Self {
            metrics: Metrics::default(),
            health: watch::Sender::new(health),
            started: now.time,
            pending: Pending::default(),
        }
    }

    /// The agent's own numbers.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Its health from now on.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// The cluster changed.
    pub fn changed(&mut self, change: &Change, now: Moment) {
        self.metrics.queued.set(metrics::seconds(now.time));
        self.pending.since.get_or_insert(now);
        match change {
            Change::Service(service) => self.service(&service.name),
            Change::ServiceGone(name) => self.service(name),
            Change::Slice(slice) => {
                let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
                let triggered = slice.triggered.filter(|triggered| *triggered > started);
                self.pending.triggers.extend(triggered);
                self.slice(&slice.name);
            }
            Change::SliceGone(name) => self.slice(name),
            Change::Node(_)
            | Change::NodeGone(_)
            | Change::ServiceCidr(..)
            | Change::ServiceCidrGone(_)
            | Change::Synced => {}
        }
    }

    fn service(&mut self, name: &Name) {
        self.metrics.services.inc();
        self.pending.services.insert(name.clone());
        self.set_pending();
    }

    fn slice(&mut self, name: &Name) {
        self.metrics.slices.inc();
        self.pending.slices.insert(name.clone());
        self.set_pending();
    }

    fn set_pending(&self) {
        let number = |names: &BTreeSet<Name>| i64::try_from(names.len()).unwrap_or(i64::MAX);
        self.metrics.services_pending.set(number(&self.pending.services));
        self.metrics.slices_pending.set(number(&self.pending.slices));
    }

    /// Something is known that is not in the kernel.
    pub fn behind(&self, now: Moment) {
        self.health.send_modify(|health| health.queued(now));
    }

    /// Planning and writing took this long, whether or not all was written.
    pub fn planned(&self, time: Duration) {
        self.metrics.sync_duration.observe(time.as_secs_f64());
    }

    /// A plan is in the kernel with all changes so far.
    pub fn applied(&mut self, now: Moment) {
        let pending = mem::take(&mut self.pending);
        self.set_pending();
        let since_1970 = now.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        for triggered in pending.triggers {
            // The cluster's clock may be ahead of ours.
            let took = since_1970.saturating_sub(triggered);
            self.metrics.programming_duration.observe(took.as_secs_f64());
        }
        if let Some(since) = pending.since {
            self.metrics.changes.applied(now.instant.saturating_duration_since(since.instant));
        }
        self.metrics.synced.set(metrics::seconds(now.time));
        self.health.send_modify(|health| health.applied(now));
    }

    /// Whether programs are attached wherever they should be.
    pub fn hooks(&self, are_attached: bool, now: Moment) {
        self.health.send_modify(|health| health.hooks(are_attached, now));
    }

    /// Whether the agent is ready; the metric follows.
    #[must_use]
    pub fn is_ready(&self, now: Moment) -> bool {
        let is_ready = self.health.borrow().ready(now).is_ok();
        self.metrics.ready.set(i64::from(is_ready));
        is_ready
    }

    /// A write failed.
    pub fn failed(&self, error: &MapError) {
        self.metrics.write_failed(error.map());
    }

    /// A conntrack garbage collection has finished.
    pub fn gc_finished(&self, run: &GcRun) {
        self.metrics.conntrack_expired.inc_by(run.removed);
        self.metrics.snat_ports.count(run.busiest_backend);
        for fill in &run.tables {
            self.metrics.connections(fill);
        }
    }

    /// This node's Node object is now so.
    pub fn node(&self, node: Option<&Node>) {
        self.health.send_modify(|health| health.node(node));
    }

    /// So many warnings and errors hold.
    pub fn counts(&self, warnings: usize, errors: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.object_warnings.set(number(warnings));
        self.metrics.node_errors.set(number(errors));
    }
}

#[cfg(test)]
pub(super) mod tests;
