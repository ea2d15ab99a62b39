//! The agent's own metrics.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::lab::Node;
use crate::traffic::probe;

/// The agent's metrics at one moment.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, f64>);

/// Upper bounds of delays, in milliseconds, by the histogram's buckets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Half of them are below.
    pub half: f64,
    /// Of a hundred, ninety-nine are below.
    pub ninety_nine: f64,
    /// Plans: changes that are planned together count once.
    pub count: f64,
}

impl Scrape {
    /// Those of the agent on `node`, at the address that they have by default.
    ///
    /// # Errors
    /// If it does not respond.
    pub fn of(node: &Node) -> Result<Self> {
        let metrics = (Ipv4Addr::LOCALHOST, 10_249).into();
        let text = probe(&node.namespace, metrics, "GET /metrics")?.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(Self(lines.filter_map(sample).collect()))
    }

    /// A sample without labels; 0 where there is none.
    #[must_use]
    pub fn counter(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// The sum of a histogram, as a duration.
    #[must_use]
    pub fn sum(&self, histogram: &str) -> Duration {
        Duration::from_secs_f64(self.counter(&format!("{histogram}_sum")))
    }

    /// Quantiles of what a histogram has got since `before`; infinite if that is nothing.
    #[must_use]
    pub fn quantiles(&self, histogram: &str, before: &Self) -> Quantiles {
        let prefix = format!("{histogram}_bucket{{le=\"");
        let bucket = |(name, count): (&String, &f64)| {
            let bound: f64 = name.strip_prefix(&prefix)?.strip_suffix("\"}")?.parse().ok()?;
            Some((bound, count - before.counter(name)))
        };
        let mut buckets: Vec<(f64, f64)> = self.0.iter().filter_map(bucket).collect();
        buckets.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
        let count = buckets.last().map_or(0.0, |(_, count)| *count);
        let bound = |share: f64| {
            let bucket = buckets.iter().find(|(_, below)| *below > 0.0 && *below >= share * count);
            bucket.map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
        };
        Quantiles { half: bound(0.5), ninety_nine: bound(0.99), count }
    }
}
