//! What the agent counts, keeps, and takes of a processor.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::agent::weir;
use weir_tests::figures::Process;
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
    let before = Process::of(process)?.processor;
    thread::sleep(SWEEP_INTERVAL);
    Ok(Process::of(process)?.processor - before)
}
