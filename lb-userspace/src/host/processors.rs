//! The number of CPUs.

use std::io;

use aya::util::nr_cpus;

/// How many CPUs there may be: a per-CPU map has a value for each of them.
///
/// # Errors
/// The kernel's list of them cannot be read.
pub fn count() -> io::Result<u32> {
    let count = nr_cpus().map_err(|(_, error)| error)?;
    u32::try_from(count).map_err(io::Error::other)
}
