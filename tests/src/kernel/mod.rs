//! The programs in the kernel, with maps of their own and attached nowhere: they are run on frames
//! with `BPF_PROG_TEST_RUN`, in a network namespace of their own.

mod flows;
mod maps;
mod programs;

use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

pub use self::maps::AyaPod;
pub use self::programs::{Programs, TestRunResult, context};

/// Runs `work` on a thread of its own, in a network namespace of its own and on one CPU; the
/// namespace goes with the thread.
///
/// # Errors
/// If the namespace cannot be made, or `work` fails.
pub fn in_own_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            // The programs' caches are per CPU: the next packet must find what the last one cached.
            let mut cpus = CpuSet::new();
            cpus.set(0)?;
            sched_setaffinity(Pid::from_raw(0), &cpus)?;
            work()
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Carries out an `ip` command in the calling thread's namespace.
///
/// # Errors
/// If it fails; its standard error is part of the error.
pub fn ip(command: &str) -> Result<()> {
    let output = Command::new("ip").args(command.split_whitespace()).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`ip {command}`: {complaint}");
    Ok(())
}
