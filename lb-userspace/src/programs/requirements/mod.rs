//! What Weir needs of a node, and what a node had better have: facts gathered in one place, judged
//! in another, so that every judgement can be tested.

mod facts;
mod finding;
mod kube_proxy;
mod netfilter;

use std::path::PathBuf;

use aya::util::KernelVersion;

pub use facts::cgroup2;
pub use finding::{Finding, Level};
pub use kube_proxy::Traces;

/// The oldest kernel whose features suffice: `bpf_ktime_get_coarse_ns` and memory that is accounted
/// to control groups came with 5.11; `bpf_redirect_neigh` (5.10) and XDP links (5.9) are older.
const OLDEST: (u8, u8) = (5, 11);

/// Where links at TC came in; before, programs are replaced in one step but cannot be pinned.
const TCX: (u8, u8) = (6, 6);

/// Where `bpf_set_retval` came in, by which a process that dials is told why it is refused.
const SOCKETS: (u8, u8) = (6, 1);

/// The capabilities programs are loaded and attached with, by their bits
/// (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_BPF", 39), ("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38)];

/// `CAP_SYS_ADMIN` stands in for `CAP_BPF` and `CAP_PERFMON`.
const SYS_ADMIN: u32 = 21;

/// What a node is, as far as Weir depends on it.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The kernel's version.
    pub kernel: Option<KernelVersion>,
    /// The effective capabilities of this process, a bit each.
    pub capabilities: u64,
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
    /// Devices whose `rp_filter` is strict.
    pub strict_devices: Vec<String>,
    /// The cgroup v2 hierarchy that is mounted.
    pub control_groups: Option<Hierarchy>,
    /// Whether the kernel tells network namespaces apart by their cookies (`SO_NETNS_COOKIE`, 5.14).
    pub names_namespaces: bool,
    /// Whether programs for sockets may say by which error a call fails (`bpf_set_retval`, 6.1);
    /// `None` if that cannot be asked.
    pub sets_errors: Option<bool>,
}

/// A cgroup v2 hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: String,
    /// Whether it begins at this container, and holds none of the node's processes beside it.
    pub is_part: bool,
}

impl Node {
    /// How each requirement is met.
    #[must_use]
    pub fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![
            self.judge_kernel(),
            self.judge_capabilities(),
            self.judge_bpffs(),
            self.judge_jit(),
            forwarding("IPv4 forwarding", "net.ipv4.ip_forward", self.forwarding_v4),
            forwarding("IPv6 forwarding", "net.ipv6.conf.all.forwarding", self.forwarding_v6),
        ];
        findings.push(if self.strict_devices.is_empty() {
            Finding::ok("reverse path filter", "not strict")
        } else {
            Finding::warn(
                "reverse path filter",
                format!("strict on {}", self.strict_devices.join(", ")),
                "packets that come in by another way than their answers leave are lost; loosen it: \
                 sysctl -w net.ipv4.conf.DEVICE.rp_filter=2",
            )
        });
        findings.push(self.judge_sockets());
        findings
    }

    fn judge_kernel(&self) -> Finding {
        let about = "kernel";
        let Some(kernel) = self.kernel else {
            return Finding::warn(
                about,
                "its version cannot be told",
                format!("Linux {}.{} or later is needed", OLDEST.0, OLDEST.1),
            );
        };
        let code = kernel.code();
        let found = format!("Linux {}.{}.{}", code >> 16, code >> 8 & 0xff, code & 0xff);
        if self.is_older_than(OLDEST) {
            let advice = format!("Linux {}.{} or later is needed", OLDEST.0, OLDEST.1);
            Finding::fail(about, found, advice)
        } else if self.is_older_than(TCX) {
            Finding::ok(
                about,
                format!(
                    "{found}: TC by clsact filters, which others may remove (links from 6.6 on)"
                ),
            )
        } else {
            Finding::ok(about, found)
        }
    }

    fn is_older_than(&self, (major, minor): (u8, u8)) -> bool {
        self.kernel.is_some_and(|kernel| kernel < KernelVersion::new(major, minor, 0))
    }

    fn judge_capabilities(&self) -> Finding {
        let has = |bit: u32| self.capabilities >> bit & 1 == 1;
        let is_met = |name: &str, bit| has(bit) || (name != "CAP_NET_ADMIN" && has(SYS_ADMIN));
        let missing: Vec<&str> = CAPABILITIES
            .into_iter()
            .filter(|(name, bit)| !is_met(name, *bit))
            .map(|(name, _)| name)
            .collect();
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
            // Containers are not shown the setting; most kernels have no other way anyway.
            None => Finding::ok("BPF compiler", "always on, or not shown here"),
        }
    }

    /// Whatever there is: packets are balanced without it.
    fn judge_sockets(&self) -> Finding {
        let about = "sockets";
        let sets_errors = self.sets_errors.unwrap_or(!self.is_older_than(SOCKETS));
        let features = [
            (self.names_namespaces, "SO_NETNS_COOKIE (Linux 5.14)"),
            (sets_errors, "bpf_set_retval (Linux 6.1)"),
        ];
        let lacks = features.into_iter().filter(|(is_there, _)| !is_there).map(|(_, name)| name);
        let lacks: Vec<&str> = lacks.collect();
        if !lacks.is_empty() {
            return Finding::warn(
                about,
                format!("this kernel lacks {}", lacks.join(" and ")),
                "the node's own processes are not balanced, everything else is: boot Linux 6.1 or \
                 later, or say --socket-balancing off if it is meant so",
            );
        }
        match &self.control_groups {
            None => Finding::warn(
                about,
                "no cgroup v2 hierarchy is mounted",
                "programs for the node's own processes attach to one, and without it everything else \
                 is balanced: boot with systemd.unified_cgroup_hierarchy=1, or mount one (mount -t \
                 cgroup2 cgroup2 DIR) and name it with --cgroup DIR, or say --socket-balancing off",
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

fn forwarding(about: &str, name: &str, value: Option<u32>) -> Finding {
    match value {
        Some(0) => Finding::warn(
            about,
            "off",
            format!("packets for pods are not forwarded: sysctl -w {name}=1"),
        ),
        Some(_) => Finding::ok(about, "on"),
        None => Finding::ok(about, "this kernel does not have the family"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Node {
        Node {
            kernel: Some(KernelVersion::new(6, 12, 3)),
            capabilities: 1 << 39 | 1 << 12 | 1 << 38,
            bpffs: "/sys/fs/bpf".into(),
            is_bpffs: true,
            jit: Some(1),
            forwarding_v4: Some(1),
            forwarding_v6: Some(1),
            strict_devices: Vec::new(),
            control_groups: Some(whole()),
            names_namespaces: true,
            sets_errors: Some(true),
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
        let told = worst.advice.unwrap_or_default();
        assert!(told.contains(advice), "{told}");
    }

    #[test]
    fn a_good_node_has_nothing_to_change() {
        check(|_| {}, Level::Ok, "");
    }

    #[test]
    fn what_weir_cannot_run_without_fails_with_what_to_do() {
        let old = KernelVersion::new(5, 10, 0);
        check(|node| node.kernel = Some(old), Level::Fail, "5.11 or later");
        check(|node| node.capabilities = 1 << 39, Level::Fail, "as root");
        check(|node| node.is_bpffs = false, Level::Fail, "mount -t bpf");
    }

    #[test]
    fn the_capability_to_do_everything_stands_in_for_those_made_out_of_it() {
        check(|node| node.capabilities = 1 << 21 | 1 << 12, Level::Ok, "");
        check(|node| node.capabilities = 1 << 21, Level::Fail, "as root");
    }

    #[test]
    fn what_costs_traffic_is_warned_of() {
        let check = |change: fn(&mut Node), advice| check(change, Level::Warn, advice);
        check(|node| node.forwarding_v4 = Some(0), "net.ipv4.ip_forward=1");
        check(|node| node.forwarding_v6 = Some(0), "net.ipv6.conf.all.forwarding=1");
        check(|node| node.strict_devices.push("eth0".into()), "rp_filter=2");
        check(|node| node.control_groups = None, "mount -t cgroup2");
        check(|node| node.jit = Some(0), "bpf_jit_enable=1");
    }

    #[test]
    fn without_sockets_everything_else_is_balanced() {
        let sockets = |change: fn(&mut Node)| {
            let mut node = good();
            change(&mut node);
            node.judge().into_iter().find(|finding| finding.about == "sockets").unwrap()
        };
        assert!(sockets(|_| {}).found.ends_with("at /sys/fs/cgroup"));
        for (change, found, advice) in [
            (
                (|node| node.control_groups = None) as fn(&mut Node),
                "no cgroup v2",
                &["--cgroup DIR", "--socket-balancing off", "everything else"][..],
            ),
            (
                |node| node.sets_errors = Some(false),
                "lacks bpf_set_retval (Linux 6.1)",
                &["--socket-balancing off", "6.1 or later", "everything else"],
            ),
            (
                |node| (node.names_namespaces, node.sets_errors) = (false, Some(false)),
                "lacks SO_NETNS_COOKIE (Linux 5.14) and bpf_set_retval (Linux 6.1)",
                &["--socket-balancing off"],
            ),
        ] {
            let finding = sockets(change);
            assert_eq!(finding.level, Level::Warn);
            assert!(finding.found.contains(found), "{finding:?}");
            let told = finding.advice.unwrap();
            assert!(advice.iter().all(|advice| told.contains(advice)), "{told}");
        }
        // Who may not ask goes by the version; who may, does not.
        let older = Some(KernelVersion::new(5, 17, 0));
        let asked = |sets_errors| Node { kernel: older, sets_errors, ..good() }.judge_sockets();
        assert_eq!(asked(None).level, Level::Warn);
        assert_eq!(asked(Some(true)).level, Level::Ok);
    }

    #[test]
    fn a_container_is_told_that_its_hierarchy_is_not_the_nodes() {
        let part = Hierarchy { is_part: true, ..whole() };
        let node = Node { control_groups: Some(part), ..good() };
        let finding = node.judge_sockets();
        assert_eq!(finding.level, Level::Ok);
        assert!(finding.found.contains("begins at this container"), "{finding:?}");
    }
}
