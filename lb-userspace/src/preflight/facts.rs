//! Looking a node over; what was found is judged elsewhere.

use std::fs;
use std::path::Path;

use super::{Hierarchy, Node};
use crate::pins;

impl Node {
    /// The node we are on, with `bpffs` as the directory for pins.
    #[must_use]
    pub fn here(bpffs: &Path) -> Self {
        let existing = bpffs.ancestors().find(|path| path.exists());
        Self {
            capabilities: capabilities().unwrap_or_default(),
            bpffs: bpffs.into(),
            is_bpffs: existing.is_some_and(pins::is_bpffs),
            jit: setting("net/core/bpf_jit_enable"),
            forwarding_v4: setting("net/ipv4/ip_forward"),
            forwarding_v6: setting("net/ipv6/conf/all/forwarding"),
            strict_devices: strict_devices(),
            control_groups: hierarchy(),
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

/// Where a cgroup v2 hierarchy is mounted.
#[must_use]
pub fn cgroup2() -> Option<String> {
    hierarchy().map(|hierarchy| hierarchy.mount)
}

fn hierarchy() -> Option<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let namespace = fs::read_link("/proc/self/ns/cgroup").ok();
    let is_contained = namespace.is_some_and(|own| own != Path::new(ALL_GROUPS));
    hierarchy_of(&mounts, is_contained)
}

/// The number of the first cgroup namespace's inode (`PROC_CGROUP_INIT_INO`).
const ALL_GROUPS: &str = "cgroup:[4026531835]";

/// The hierarchy that reaches furthest up, see proc_pid_mountinfo(5): the fourth field is what is
/// mounted, as seen from our cgroup namespace, the fifth the mount point, and the type comes after a
/// hyphen.
fn hierarchy_of(mounts: &str, is_contained: bool) -> Option<Hierarchy> {
    let of = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_part = is_contained && !root.starts_with("/..");
        let hierarchy = Hierarchy { mount: point.to_owned(), is_part };
        source.starts_with("cgroup2 ").then_some(hierarchy)
    };
    let found: Vec<Hierarchy> = mounts.lines().filter_map(of).collect();
    found.iter().find(|hierarchy| !hierarchy.is_part).or(found.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_hierarchy_is_known_by_its_type() {
        let line = "41 31 0:38 / /sys/fs/cgroup rw,nosuid master:9 - cgroup2 none rw,nsdelegate";
        let whole = Hierarchy { mount: "/sys/fs/cgroup".into(), is_part: false };
        assert_eq!(hierarchy_of(line, false), Some(whole));
        let older = "30 24 0:26 / /sys/fs/cgroup/cgroup2 rw - cgroup cgroup rw,memory";
        assert_eq!(hierarchy_of(older, false), None);
    }

    #[test]
    fn the_nodes_hierarchy_comes_before_a_containers_part_of_it() {
        let part = "41 31 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let found = Hierarchy { mount: "/sys/fs/cgroup".into(), is_part: true };
        assert_eq!(hierarchy_of(part, true), Some(found));
        let both = format!("{part}\n52 31 0:38 /../../.. /run/cgroup ro - cgroup2 cgroup rw");
        let found = Hierarchy { mount: "/run/cgroup".into(), is_part: false };
        assert_eq!(hierarchy_of(&both, true), Some(found));
    }
}
