//! Metrics of how changes get into the kernel.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What changes cost.
#[derive(Clone, Debug)]
pub struct Changes {
    plan: Histogram,
    write: Histogram,
    delay: Histogram,
    rows: Counter,
    of_everything: Counter,
    operations: Counter,
}

impl Default for Changes {
    fn default() -> Self {
        // From 50 µs to 1.6 s.
        let histogram = || Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        Self {
            plan: histogram(),
            write: histogram(),
            delay: histogram(),
            rows: Counter::default(),
            of_everything: Counter::default(),
            operations: Counter::default(),
        }
    }
}

impl Changes {
    /// A plan took this long. Since the start, plans have compared so many rows, and so many were of everything.
    pub fn planned(&self, took: Duration, [rows, of_everything]: [u64; 2]) {
        self.plan.observe(took.as_secs_f64());
        self.rows.inc_by(rows.saturating_sub(self.rows.get()));
        self.of_everything.inc_by(of_everything.saturating_sub(self.of_everything.get()));
    }

    /// So many operations were written in this time.
    pub fn written(&self, took: Duration, operations: usize) {
        self.write.observe(took.as_secs_f64());
        self.operations.inc_by(operations as u64);
    }

    /// The first of the changes that were planned together came this long before the last of their writes.
    pub fn applied(&self, delay: Duration) {
        self.delay.observe(delay.as_secs_f64());
    }

    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "plan_duration_seconds",
            "Time to plan what changes touched",
            self.plan.clone(),
        );
        registry.register(
            "write_duration_seconds",
            "Time to write what a plan changes",
            self.write.clone(),
        );
        registry.register(
            "change_delay_seconds",
            "Time from when the first of the changes that a plan took in came to this agent until the last write of it",
            self.delay.clone(),
        );
        registry.register(
            "planned_rows",
            "Rows of the maps that plans have compared",
            self.rows.clone(),
        );
        registry.register(
            "plans_of_everything",
            "Plans of everything, and not of the Services that changes touched alone",
            self.of_everything.clone(),
        );
        registry.register(
            "map_operations",
            "Writes to maps that were done",
            self.operations.clone(),
        );
    }
}
