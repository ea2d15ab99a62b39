//! What the agent counts of itself, and the system of it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;
use weir_tests::lab::Node;
use weir_tests::traffic::probe;

/// The agent's metrics at one moment.
pub struct Scrape(BTreeMap<String, f64>);

/// Upper bounds of delays, in milliseconds, by the histogram's buckets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub half: f64,
    pub ninety_nine: f64,
    /// Plans: changes that are planned together count once.
    pub count: f64,
}

impl Scrape {
    pub fn of(node: &Node) -> Result<Self> {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let response = probe(&node.namespace, "127.0.0.1:10249".parse()?, request)?;
        let text = response.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(Self(lines.filter_map(sample).collect()))
    }

    /// A sample without labels; 0 where there is none.
    pub fn counter(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// The sum of a histogram, as a duration.
    pub fn sum(&self, histogram: &str) -> Duration {
        Duration::from_secs_f64(self.counter(&format!("{histogram}_sum")))
    }

    /// Quantiles of what a histogram has got since `before`.
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
            let bucket = buckets.iter().find(|(_, below)| *below >= share * count);
            bucket.map_or(f64::INFINITY, |(bound, _)| bound * 1e3)
        };
        Quantiles { half: bound(0.5), ninety_nine: bound(0.99), count }
    }
}

/// A process as it is.
pub struct Process {
    /// Time it has had on a processor.
    pub processor: Duration,
    /// The memory it has.
    pub memory: Memory,
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// All that is resident: the kernel's maps that are mapped into it, and its program, too.
    pub resident: u64,
    /// What is its own alone: heap and stacks.
    pub own: u64,
}

impl Process {
    /// The process with this number.
    pub fn of(number: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{number}/status"))?;
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kibibytes =
                line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
            let kibibytes: u64 =
                kibibytes.with_context(|| format!("/proc does not have {field}"))?;
            anyhow::Ok(kibibytes * 1024)
        };
        let memory = Memory { resident: bytes("VmRSS:")?, own: bytes("RssAnon:")? };
        // Fields 14 and 15 of proc_pid_stat(5), counted from behind the name, which may hold anything.
        let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("/proc has no name for the agent")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<_, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
        let processor = Duration::from_millis(ticks * 1000 / per_second.unsigned_abs());
        Ok(Self { processor, memory })
    }
}
