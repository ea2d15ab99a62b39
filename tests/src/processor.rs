//! Which processor a thread runs on.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this thread on the `index`th CPU that it may use, or on the last one.
///
/// # Errors
/// If the kernel refuses it.
pub fn stay_on_cpu(index: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpus: Vec<usize> = cpus.by_ref().take(index + 1).collect();
    let mut one = CpuSet::new();
    one.set(*cpus.last().context("this thread may use no CPU")?)?;
    Ok(sched_setaffinity(this, &one)?)
}
