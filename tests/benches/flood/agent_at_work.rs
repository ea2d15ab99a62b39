//! What the agent counts, keeps, and takes of a processor.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::{Value, json};
use weir_tests::agent::weir;
use weir_tests::lab::Node;
use weir_tests::traffic::probe;

/// How often the agent collects garbage: once in so long it goes through all tables of flows.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How many packets on `node` had each outcome.
pub fn outcomes(node: &Node) -> Result<BTreeMap<String, u64>> {
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_249));
    let text = probe(&node.namespace, metrics, "GET /metrics")?.text();
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("weir_packets_total{outcome=\"")?;
        let (outcome, count) = rest.split_once("\"} ")?;
        Some(count.parse().map(|count| (outcome.to_owned(), count)))
    });
    Ok(lines.collect::<Result<_, _>>()?)
}

/// What the maps of `node` take: all of them, and each table of flows.
pub fn maps(node: &Node) -> Result<Value> {
    let maps: Vec<Value> = serde_json::from_str(&weir(node, &["show", "maps", "-o", "json"])?)?;
    let memory = maps.iter().map(|map| map["memory"].as_u64()).sum::<Option<u64>>();
    let is_of_flows = |map: &&Value| {
        let name = map["name"].as_str().unwrap_or_default();
        name.starts_with("CONNTRACK") || name.starts_with("HALF_OPEN")
    };
    let flows: Vec<&Value> = maps.iter().filter(is_of_flows).collect();
    Ok(
        json!({"bytes": memory.context("the kernel does not say how large a map is")?, "flows": flows}),
    )
}

/// What `process`, the agent, takes of a processor while it goes once through all tables of flows: it has
/// little else to do in that time.
pub fn sweep(process: u32) -> Result<Duration> {
    let before = processor(process)?;
    thread::sleep(SWEEP_INTERVAL);
    Ok(processor(process)? - before)
}

/// Time of a process on a processor, its system calls included: fields 14 and 15 of proc_pid_stat(5),
/// counted from behind the name, which may hold anything.
fn processor(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc has no name for the agent")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
    Ok(Duration::from_millis(ticks * 1000 / per_second.unsigned_abs()))
}
