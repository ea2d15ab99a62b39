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
    /// Where a cgroup v2 hierarchy is mounted.
    pub cgroup2: Option<String>,
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
        findings.push(match &self.cgroup2 {
            Some(point) => Finding::ok("cgroup v2", format!("mounted at {point}")),
            None => Finding::warn(
                "cgroup v2",
                "no such hierarchy is mounted",
                "programs for the node's own processes attach to one: boot with \
                 systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            ),
        });
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
        let at_least = |(major, minor)| kernel >= KernelVersion::new(major, minor, 0);
        if !at_least(OLDEST) {
            let advice = format!("Linux {}.{} or later is needed", OLDEST.0, OLDEST.1);
            Finding::fail(about, found, advice)
        } else if at_least(TCX) {
            Finding::ok(about, found)
        } else {
            Finding::ok(
                about,
                format!(
                    "{found}: TC by clsact filters, which others may remove (links from 6.6 on)"
                ),
            )
        }
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
            cgroup2: Some("/sys/fs/cgroup".into()),
        }
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
        check(|node| node.cgroup2 = None, "mount -t cgroup2");
        check(|node| node.jit = Some(0), "bpf_jit_enable=1");
    }
}
