//! The node's memory.

use std::fs;
use std::io;

const FILE: &str = "/proc/meminfo";

/// This machine's memory in bytes.
///
/// # Errors
/// The kernel does not say.
pub fn total() -> io::Result<u64> {
    let text = fs::read_to_string(FILE)?;
    of(&text).ok_or_else(|| io::Error::other("no line MemTotal"))
}

fn of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(of("MemTotal:       24 kB\nMemFree: 1 kB\n"), Some(24 * 1024));
        assert_eq!(of("MemFree: 1 kB\n"), None);
    }
}
