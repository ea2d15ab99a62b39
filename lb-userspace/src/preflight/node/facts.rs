//! Reads the facts about a node; `node` judges them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use lb_common::address::Family;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::Node;
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
            capabilities: capabilities(),
            bpffs: bpffs.into(),
            is_bpffs: existing.is_some_and(pins::is_bpffs),
            jit: setting("net/core/bpf_jit_enable"),
            forwarding_v4: setting("net/ipv4/ip_forward"),
            forwarding_v6: setting("net/ipv6/conf/all/forwarding"),
            families: families(),
            strict_devices: strict_devices(),
            control_groups: cgroup::hierarchy(),
            snat_ports: [all.ports(), first.ports()],
        }
    }
}

/// A setting below `/proc/sys` that is a number; `None` where there is none, or it may not be read.
pub fn setting(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// `CapEff` of `/proc/self/status`, see capabilities(7).
fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The families of which a device has an address that others may know. Where the kernel does not list
/// addresses, all families count.
fn families() -> Vec<Family> {
    let Ok(addresses) = getifaddrs() else { return Family::ALL.into() };
    let addresses: Vec<IpAddr> =
        addresses.filter_map(|one| one.address.as_ref().and_then(ip)).filter(is_global).collect();
    let has = |family: &Family| addresses.iter().any(|address| Family::of(address) == *family);
    Family::ALL.into_iter().filter(has).collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn is_global(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || *address == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !is_link_local && !address.is_loopback()
}

fn strict_devices() -> Vec<String> {
    let folder = Path::new("/proc/sys/net/ipv4/conf");
    let of = |device: &str| setting(&format!("net/ipv4/conf/{device}/rp_filter"));
    let all = of("all");
    let mut strict: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|device| !["all", "default", "lo"].contains(&device.as_str()))
        .filter(|device| is_strict(all, of(device)))
        .collect();
    strict.sort();
    strict
}

/// The larger of `all` and a device's own value goes for the device
/// (`Documentation/networking/ip-sysctl.rst`): 1 is strict, 2 is loose.
fn is_strict(all: Option<u32>, own: Option<u32>) -> bool {
    all.max(own) == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_value_of_all_and_the_device_decides_whether_it_is_strict() {
        let strict = |all, own| is_strict(Some(all), Some(own));
        assert!(strict(0, 1) && strict(1, 0) && strict(1, 1));
        assert!(!strict(0, 0) && !strict(2, 1) && !strict(1, 2) && !strict(0, 2));
        assert!(!is_strict(None, None));
    }

    #[test]
    fn an_address_of_the_link_or_the_node_alone_makes_no_family() {
        let global = |text: &str| is_global(&text.parse().unwrap());
        assert!(global("192.0.2.1") && global("10.0.0.1") && global("fd30::11"));
        assert!(!global("127.0.0.1") && !global("169.254.1.1"));
        assert!(!global("::1") && !global("fe80::1"));
    }
}
