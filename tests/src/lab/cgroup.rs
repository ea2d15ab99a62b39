//! A control group for this process while it has labs, so that agents balance no other
//! sockets. All of a process's threads are in it, whichever namespace they are in: agents recognise those of
//! their own node by the namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// Where this process was before it entered one of ours.
static BEFORE: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Where the cgroup v2 hierarchy is mounted; `None` if it is not.
#[must_use]
pub fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut line| {
        let point = line.nth(1)?;
        (line.next()? == "cgroup2").then_some(point)
    })?;
    Some(found.into())
}

/// A control group that this process is in, outside of a lab, until this is dropped.
#[derive(Debug)]
pub struct Stay(PathBuf);

impl Stay {
    /// Makes a control group and moves this process into it; `None` if there is no hierarchy.
    ///
    /// # Errors
    /// If it cannot be made or entered.
    pub fn begin() -> Result<Option<Self>> {
        let Some(group) = named(&format!("weir-kernel-{}", process::id())) else {
            return Ok(None);
        };
        enter(&group)?;
        Ok(Some(Self(group)))
    }

    /// Its directory.
    #[must_use]
    pub fn group(&self) -> &Path {
        &self.0
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        leave(&self.0);
    }
}

/// The control group called `name`.
pub(super) fn named(name: &str) -> Option<PathBuf> {
    Some(hierarchy()?.join(name))
}

/// Makes the control group and moves this process into it.
pub(super) fn enter(group: &Path) -> Result<()> {
    BEFORE.get_or_init(own);
    fs::create_dir_all(group)
        .and_then(|()| join(group))
        .with_context(|| format!("cannot enter the control group {}", group.display()))
}

/// Moves this process back to where it was and removes the control group. One in which a
/// child lives on is left to the next process that makes a lab.
pub(super) fn leave(group: &Path) {
    let before = BEFORE.get().and_then(Option::as_deref).or(group.parent());
    if before.is_some_and(|before| join(before).is_ok()) {
        remove(group);
    }
}

/// Removes the control group of a process that is gone, and those it has made below for containers.
pub(super) fn remove(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(below.path());
    }
    let _ = fs::remove_dir(group);
}

/// The control group that this process is in.
fn own() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(hierarchy()?.join(path))
}

fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string())
}
