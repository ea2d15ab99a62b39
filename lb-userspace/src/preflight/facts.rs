//! Reads the facts about a node; `node` judges them.

use std::fs;
use std::path::Path;

use super::node::Node;
use crate::host::cgroup;
use crate::host::snat_ports::LocalPorts;
use crate::pins;

impl Node {
    /// The local node, with `bpffs` as the directory for pins.
    #[must_use]
    pub fn local(bpffs: &Path) -> Self {
        let [first, .., all] = LocalPorts::of_this_node().tiers([].into_iter());
        let existing = bpffs.ancestors().find(|path| path.exists());
        Self {
            capabilities: capabilities().unwrap_or_default(),
            bpffs: bpffs.into(),
            is_bpffs: existing.is_some_and(pins::is_bpffs),
            jit: setting("net/core/bpf_jit_enable"),
            forwarding_v4: setting("net/ipv4/ip_forward"),
            forwarding_v6: setting("net/ipv6/conf/all/forwarding"),
            strict_devices: strict_devices(),
            control_groups: cgroup::hierarchy(),
            snat_ports: [all.ports(), first.ports()],
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
