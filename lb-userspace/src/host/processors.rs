//! The number of CPUs.

use std::io;

use aya::util::nr_cpus;
use nix::unistd::{SysconfVar, sysconf};

/// How many CPUs there may be: a per-CPU map has a value for each of them.
///
/// # Errors
/// The kernel's list of them cannot be read.
pub fn count() -> io::Result<u32> {
    let count = nr_cpus().map_err(|(_, error)| error)?;
    u32::try_from(count).map_err(io::Error::other)
}

/// How many CPUs the node has online, whatever share of them a container may use.
///
/// # Errors
/// The kernel does not say.
pub fn online() -> io::Result<u32> {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN)?;
    count.and_then(|count| u32::try_from(count).ok()).ok_or_else(|| io::Error::other("no number"))
}
