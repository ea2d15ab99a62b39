//! What Weir needs of a node, and what it had better have, judged on facts, so that every judgement can
//! be tested.

pub(super) mod facts;
mod pinned;

use std::path::PathBuf;

use lb_common::address::Family;

pub use self::pinned::{Pinned, PinnedLayout, PinnedMaps};
use super::finding::Finding;
use crate::host::cgroup::Hierarchy;

/// The capabilities programs are loaded and attached with, by their bits
/// (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_BPF", 39), ("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38)];

/// `CAP_SYS_ADMIN` stands in for `CAP_BPF` and `CAP_PERFMON`.
const SYS_ADMIN: u32 = 21;

/// What a node is, as far as Weir depends on it.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The effective capabilities of this process, a bit each; `None` where they cannot be read.
    pub capabilities: Option<u64>,
    /// The directory given as `--bpffs`.
    pub bpffs: PathBuf,
    /// Whether it, or the nearest directory above it that exists, is on a BPF file system.
    pub is_bpffs: bool,
    /// Settings below `/proc/sys`, `None` where the kernel has no such setting.
    pub jit: Option<u32>,
    /// `net/ipv4/ip_forward`
    pub forwarding_v4: Option<u32>,
    /// `net/ipv6/conf/all/forwarding`
    pub forwarding_v6: Option<u32>,
    /// The families that the node has addresses of.
    pub families: Vec<Family>,
    /// Devices whose `rp_filter` is strict.
    pub strict_devices: Vec<String>,
    /// The cgroup v2 hierarchy that is mounted.
    pub control_groups: Option<Hierarchy>,
    /// Source ports for SNAT that there are, and those of them that the kernel gives to no socket.
    pub snat_ports: [u32; 2],
}

impl Node {
    /// How each requirement is met.
    #[must_use]
    pub fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![
            self.judge_capabilities(),
            self.judge_bpffs(),
            self.judge_jit(),
            self.judge_forwarding(Family::V4),
            self.judge_forwarding(Family::V6),
        ];
        findings.push(if self.strict_devices.is_empty() {
            Finding::ok("reverse path filter", "not strict")
        } else {
            Finding::warn(
                "reverse path filter",
                format!("strict on {}", self.strict_devices.join(", ")),
                "packets that come in by another device than their replies leave by are lost; loosen it: \
                 sysctl -w net.ipv4.conf.DEVICE.rp_filter=2",
            )
        });
        findings.push(self.judge_sockets());
        findings.push(self.judge_snat_ports());
        findings
    }

    /// Whether this process may load and attach programs.
    #[must_use]
    pub fn is_capable(&self) -> bool {
        self.missing_capabilities().is_empty()
    }

    fn missing_capabilities(&self) -> Vec<&'static str> {
        let of_process = self.capabilities.unwrap_or(0);
        let has = |bit: u32| of_process >> bit & 1 == 1;
        let is_met = |name: &str, bit| has(bit) || (name != "CAP_NET_ADMIN" && has(SYS_ADMIN));
        CAPABILITIES
            .into_iter()
            .filter(|(name, bit)| !is_met(name, *bit))
            .map(|(name, _)| name)
            .collect()
    }

    fn judge_capabilities(&self) -> Finding {
        if self.capabilities.is_none() {
            return Finding::fail(
                "capabilities",
                "/proc/self/status does not show them",
                "mount /proc in this container: mount -t proc proc /proc",
            );
        }
        let missing = self.missing_capabilities();
        if missing.is_empty() {
            return Finding::ok("capabilities", "BPF, NET_ADMIN, PERFMON");
        }
        Finding::fail(
            "capabilities",
            format!("{} missing", missing.join(", ")),
            "run weir as root, or give its process these capabilities",
        )
    }

    fn judge_bpffs(&self) -> Finding {
        let bpffs = self.bpffs.display();
        if self.is_bpffs {
            return Finding::ok("bpffs", bpffs.to_string());
        }
        Finding::fail(
            "bpffs",
            format!("{bpffs} is not on a BPF file system"),
            format!("mount one (mount -t bpf bpf {bpffs}) or name one with --bpffs"),
        )
    }

    fn judge_jit(&self) -> Finding {
        match self.jit {
            Some(0) => Finding::warn(
                "BPF compiler",
                "off: programs are interpreted",
                "switch it on: sysctl -w net.core.bpf_jit_enable=1",
            ),
            Some(_) => Finding::ok("BPF compiler", "on"),
            // Containers are not shown the setting; most kernels have nothing else anyway.
            None => Finding::ok("BPF compiler", "always on, or not shown here"),
        }
    }

    /// A node of one family forwards nothing of the other.
    fn judge_forwarding(&self, family: Family) -> Finding {
        let (about, name, value) = match family {
            Family::V4 => ("IPv4 forwarding", "net.ipv4.ip_forward", self.forwarding_v4),
            Family::V6 => ("IPv6 forwarding", "net.ipv6.conf.all.forwarding", self.forwarding_v6),
        };
        match value {
            Some(0) if !self.families.contains(&family) => {
                Finding::ok(about, "off; no device has an address of the family")
            }
            Some(0) => Finding::warn(
                about,
                "off",
                format!("packets for pods are not forwarded: sysctl -w {name}=1"),
            ),
            Some(_) => Finding::ok(about, "on"),
            None => Finding::ok(about, "this kernel does not have the family"),
        }
    }

    /// There are always ports; those beyond sockets' save SNAT and the node's sockets from each other.
    fn judge_snat_ports(&self) -> Finding {
        let about = "SNAT ports";
        let [all, beyond] = self.snat_ports;
        let found = format!("{all}, {beyond} of them outside net.ipv4.ip_local_port_range");
        if beyond > 0 {
            return Finding::ok(about, found);
        }
        Finding::warn(
            about,
            found,
            "a socket of this node may get the port of a flow with SNAT to the same backend, and lose its \
             replies; leave ports out: sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
        )
    }

    /// Whatever there is: packets are balanced without it.
    fn judge_sockets(&self) -> Finding {
        let about = "sockets";
        match &self.control_groups {
            None => Finding::warn(
                about,
                "no cgroup v2 hierarchy is mounted",
                "programs for the node's own processes attach to one, and without it everything else \
                 is balanced: boot with systemd.unified_cgroup_hierarchy=1, or mount one (mount -t \
                 cgroup2 cgroup2 DIR) and name it with --cgroup DIR, or set --socket-balancing off",
            ),
            Some(Hierarchy { mount, is_part: false }) => Finding::ok(
                about,
                format!("programs for the node's own processes attach to cgroup v2, at {mount}"),
            ),
            Some(Hierarchy { mount, is_part: true }) => Finding::ok(
                about,
                format!(
                    "cgroup v2 at {mount} begins at this container: programs for the node's own \
                     processes attach to the node's, named by --cgroup"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn good() -> Node {
        Node {
            capabilities: Some(1 << 39 | 1 << 12 | 1 << 38),
            bpffs: "/sys/fs/bpf".into(),
            is_bpffs: true,
            jit: Some(1),
            forwarding_v4: Some(1),
            forwarding_v6: Some(1),
            families: Family::ALL.into(),
            strict_devices: Vec::new(),
            control_groups: Some(whole()),
            snat_ports: [61_440, 32_768],
        }
    }

    fn whole() -> Hierarchy {
        Hierarchy { mount: "/sys/fs/cgroup".into(), is_part: false }
    }

    #[track_caller]
    fn check(change: impl Fn(&mut Node), level: Level, advice: &str) {
        let mut node = good();
        change(&mut node);
        let worst = node.judge().into_iter().max_by_key(|f| f.level).unwrap();
        assert_eq!(worst.level, level, "{worst:?}");
        let found = worst.advice.unwrap_or_default();
        assert!(found.contains(advice), "{found}");
    }

    #[test]
    fn a_good_node_has_nothing_to_change() {
        check(|_| {}, Level::Ok, "");
    }

    #[test]
    fn what_weir_cannot_run_without_fails_with_what_to_do() {
        check(|node| node.capabilities = Some(1 << 39), Level::Fail, "as root");
        check(|node| node.capabilities = None, Level::Fail, "mount -t proc");
        check(|node| node.is_bpffs = false, Level::Fail, "mount -t bpf");
    }

    #[test]
    fn the_capability_to_do_everything_stands_in_for_those_made_out_of_it() {
        check(|node| node.capabilities = Some(1 << 21 | 1 << 12), Level::Ok, "");
        check(|node| node.capabilities = Some(1 << 21), Level::Fail, "as root");
    }

    #[test]
    fn what_costs_traffic_is_warned_of() {
        let check = |change: fn(&mut Node), advice| check(change, Level::Warn, advice);
        check(|node| node.forwarding_v4 = Some(0), "net.ipv4.ip_forward=1");
        check(|node| node.forwarding_v6 = Some(0), "net.ipv6.conf.all.forwarding=1");
        check(|node| node.strict_devices.push("eth0".into()), "rp_filter=2");
        check(|node| node.control_groups = None, "mount -t cgroup2");
        check(|node| node.jit = Some(0), "bpf_jit_enable=1");
        check(|node| node.snat_ports = [61_440, 0], "ip_local_port_range='32768 60999'");
    }

    #[test]
    fn a_node_of_one_family_need_not_forward_the_other() {
        let only = |node: &mut Node, family| node.families = vec![family];
        let v4_alone = |node: &mut Node| (only(node, Family::V4), node.forwarding_v6 = Some(0)).1;
        check(v4_alone, Level::Ok, "");
        let v6_alone = |node: &mut Node| (only(node, Family::V6), node.forwarding_v4 = Some(0)).1;
        check(v6_alone, Level::Ok, "");
    }

    #[test]
    fn without_sockets_everything_else_is_balanced() {
        let sockets = |change: fn(&mut Node)| {
            let mut node = good();
            change(&mut node);
            node.judge().into_iter().find(|finding| finding.about == "sockets").unwrap()
        };
        assert!(sockets(|_| {}).found.ends_with("at /sys/fs/cgroup"));
        let finding = sockets(|node| node.control_groups = None);
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.found.contains("no cgroup v2"), "{finding:?}");
        let found = finding.advice.unwrap();
        for advice in ["--cgroup DIR", "--socket-balancing off", "everything else"] {
            assert!(found.contains(advice), "{found}");
        }
    }

    #[test]
    fn a_container_is_warned_that_its_hierarchy_is_not_the_nodes() {
        let part = Hierarchy { is_part: true, ..whole() };
        let node = Node { control_groups: Some(part), ..good() };
        let finding = node.judge_sockets();
        assert_eq!(finding.level, Level::Ok);
        assert!(finding.found.contains("begins at this container"), "{finding:?}");
    }
}
