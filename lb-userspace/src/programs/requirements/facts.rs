//! Looking a node over; what was found is judged elsewhere.

use std::fs;
use std::path::Path;

use aya::util::KernelVersion;

use super::Node;
use crate::programs::pins;

impl Node {
    /// The node we are on, with `bpffs` as the directory for pins.
    #[must_use]
    pub fn here(bpffs: &Path) -> Self {
        let existing = bpffs.ancestors().find(|path| path.exists());
        Self {
            kernel: KernelVersion::current().ok(),
            capabilities: capabilities().unwrap_or_default(),
            bpffs: bpffs.into(),
            is_bpffs: existing.is_some_and(pins::is_bpffs),
            jit: setting("net/core/bpf_jit_enable"),
            forwarding_v4: setting("net/ipv4/ip_forward"),
            forwarding_v6: setting("net/ipv6/conf/all/forwarding"),
            strict_devices: strict_devices(),
            cgroup2: cgroup2(),
        }
    }
}

fn setting(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// `CapEff` of `/proc/self/status`, see capabilities(7).
fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The larger of `all` and a device's own value goes for the device
/// (`Documentation/networking/ip-sysctl.rst`).
fn strict_devices() -> Vec<String> {
    let folder = Path::new("/proc/sys/net/ipv4/conf");
    let of = |device: &str| setting(&format!("net/ipv4/conf/{device}/rp_filter"));
    let all = of("all").unwrap_or_default();
    let mut strict: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|device| !["all", "default", "lo"].contains(&device.as_str()))
        .filter(|device| of(device).unwrap_or_default().max(all) == 1)
        .collect();
    strict.sort();
    strict
}

/// Where the first cgroup v2 hierarchy is mounted, see proc_pid_mountinfo(5): the fifth field is the
/// mount point, and the type comes after a hyphen.
#[must_use]
pub fn cgroup2() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(cgroup2_of).map(str::to_owned)
}

fn cgroup2_of(line: &str) -> Option<&str> {
    let (mount, source) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?;
    source.starts_with("cgroup2 ").then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_hierarchy_is_known_by_its_type() {
        let line = "41 31 0:38 / /sys/fs/cgroup rw,nosuid master:9 - cgroup2 none rw,nsdelegate";
        assert_eq!(cgroup2_of(line), Some("/sys/fs/cgroup"));
        let older = "30 24 0:26 / /sys/fs/cgroup/cgroup2 rw - cgroup cgroup rw,memory";
        assert_eq!(cgroup2_of(older), None);
    }
}
