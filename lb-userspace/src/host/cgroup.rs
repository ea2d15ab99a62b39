//! Where the cgroup v2 hierarchy is mounted.

use std::fs;
use std::path::Path;

/// A cgroup v2 hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: String,
    /// Whether it begins at this container, and holds none of the node's processes beside it.
    pub is_part: bool,
}

/// Where a cgroup v2 hierarchy is mounted.
#[must_use]
pub fn mount_point() -> Option<String> {
    hierarchy().map(|hierarchy| hierarchy.mount)
}

/// The cgroup v2 hierarchy that is mounted and reaches furthest up.
#[must_use]
pub fn hierarchy() -> Option<Hierarchy> {
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
