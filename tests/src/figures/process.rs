//! What the system counts of a process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// A process as it is.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Time that it has had on a processor, and the programs that it has run and that have ended.
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
    /// The most that ever was resident.
    pub most: u64,
}

impl Process {
    /// The process with this number.
    ///
    /// # Errors
    /// If there is none.
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
        let (resident, own, most) = (bytes("VmRSS:")?, bytes("RssAnon:")?, bytes("VmHWM:")?);
        Ok(Self { processor: processor(number)?, memory: Memory { resident, own, most } })
    }
}

/// Time on a processor, system calls included: fields 14 to 17 of proc_pid_stat(5), its own and that of children
/// that it has waited for; counted from behind the name, which may hold anything.
fn processor(number: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc has no name for the process")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<Result<_, _>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
    Ok(Duration::from_millis(ticks * 1000 / per_second.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_has_memory_and_the_time_of_programs_that_it_has_run() {
        let before = Process::of(std::process::id()).unwrap();
        let count = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", count]).status().unwrap().success());
        let after = Process::of(std::process::id()).unwrap();
        assert!(after.processor > before.processor, "{before:?}, {after:?}");
        let Memory { resident, own, most } = after.memory;
        assert!(own > 0 && resident > own && most >= own, "{after:?}");
    }
}
