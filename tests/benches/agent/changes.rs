//! Changes of an endpoint, from the request to the API server until packets are right.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use weir_tests::control_plane::ControlPlane;
use weir_tests::control_plane::proxy::Running;
use weir_tests::figures::{Process, Quantiles, Scrape};
use weir_tests::lab::{Lab, Pod};

use super::cluster::Cluster;
use super::watch::Watch;

/// How changes follow each other.
#[derive(Clone, Copy)]
pub struct Series {
    /// So many of them.
    pub changes: u32,
    /// Or fewer, if they take longer than this.
    pub most: Duration,
    /// The pause before each.
    pub quiet: Duration,
}

/// One change.
#[derive(Clone, Copy, Serialize)]
pub struct Change {
    /// From the request until a new connection had ended at the right pod.
    pub total: Duration,
    /// Of that, until the API server had sent it to a watch.
    pub server: Duration,
}

impl Change {
    /// What was left when the API server had sent it.
    pub const fn rest(&self) -> Duration {
        self.total.saturating_sub(self.server)
    }
}

/// What a series of changes took.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// Each change.
    pub changes: Vec<Change>,
    /// Time on a processor that the proxy had for each.
    pub processor: Duration,
    /// Of Weir, its own metric: from when a change has come to it until the last write to a map.
    pub delays: Option<Quantiles>,
}

/// Gives the last Service of `cluster` another endpoint, again and again.
pub fn follow(
    lab: &Lab,
    control_plane: &ControlPlane,
    cluster: &Cluster,
    running: &Running,
    series: Series,
) -> Result<Followed> {
    let watch = Watch::begin(control_plane.another_client()?, &cluster.last_name())?;
    let pods = [&lab.node1.pods[1], &lab.node2.pods[0]];
    let next = |number: u32| change(cluster, &watch, pods[number as usize % 2], series.quiet);
    // It leaves one endpoint of many, one of which may be the right one by chance.
    next(0)?;
    let scrape = || match running {
        Running::Weir(_) => Scrape::of(&lab.node1).context("cannot read its metrics").map(Some),
        Running::KubeProxy(_) => Ok(None),
    };
    let (before, process) = (scrape()?, Process::of(running.id())?);
    let begun = Instant::now();
    let mut changes = Vec::new();
    for number in 1..=series.changes {
        changes.push(next(number)?);
        if begun.elapsed() > series.most {
            break;
        }
    }
    let processor = Process::of(running.id())?.processor - process.processor;
    let delays = scrape()?
        .zip(before)
        .map(|(after, before)| after.quantiles("weir_change_delay_seconds", &before));
    Ok(Followed { processor: processor / changes.len() as u32, changes, delays })
}

fn change(cluster: &Cluster, watch: &Watch, pod: &Pod, quiet: Duration) -> Result<Change> {
    // The quiet time is what is measured, and no condition to wait for.
    thread::sleep(quiet);
    let begun = Instant::now();
    let version = cluster.change(pod)?;
    let total = cluster.until_served_by(pod)? - begun;
    let server = watch.seen(&version)? - begun;
    Ok(Change { total, server })
}
