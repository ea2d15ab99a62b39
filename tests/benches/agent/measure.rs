//! What the system counts of the agent.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::lab::Node;

/// A process as it is.
pub struct Process {
    /// Time it has had on a processor.
    pub processor: Duration,
    /// Bytes of memory it has.
    pub memory: u64,
    /// The most it ever had.
    pub most_memory: u64,
}

impl Process {
    /// The process with this number.
    pub fn of(number: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{number}/status"))?;
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        };
        let memory = |field| bytes(field).with_context(|| format!("/proc does not have {field}"));
        Ok(Self {
            processor: processor(number)?,
            memory: memory("VmRSS:")?,
            most_memory: memory("VmHWM:")?,
        })
    }
}

/// Time of a process on a processor, its system calls included: fields 14 and 15 of proc_pid_stat(5),
/// counted from behind the name, which may hold anything.
fn processor(number: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc has no name for the agent")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
    Ok(Duration::from_millis(ticks * 1000 / per_second.unsigned_abs()))
}

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
