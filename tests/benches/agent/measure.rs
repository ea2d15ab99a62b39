//! What the system counts of a node.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::lab::Node;

/// Bytes that came in by the devices of `node`, headers included: the second field of
/// `/proc/net/dev` after a name.
pub fn received(node: &Node) -> Result<u64> {
    let table = node.namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let devices = table.lines().filter_map(|line| line.trim().split_once(':'));
    let received = devices
        .filter(|(name, _)| *name != "lo")
        .filter_map(|(_, counts)| counts.split_whitespace().next()?.parse::<u64>().ok());
    Ok(received.sum())
}

/// Bytes that the maps of `node` take.
pub fn maps(node: &Node) -> Result<u64> {
    let maps: Vec<Value> = serde_json::from_str(&weir(node, &["show", "maps", "-o", "json"])?)?;
    let memory = maps.iter().map(|map| map["memory"].as_u64()).sum::<Option<u64>>();
    memory.context("the kernel does not say how large a map is")
}
