//! Cilium beside Weir: found by its devices and its programs.

use super::finding::Finding;
use super::trial;
use crate::host::devices::Link;

/// What was found of Cilium.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cilium {
    /// Its devices: `cilium_host`, `cilium_net`, and those of its pods.
    pub devices: Vec<String>,
    /// Its programs that the kernel has loaded, as far as they are shown.
    pub programs: Vec<String>,
}

impl Cilium {
    /// What is there of it among these devices and in this kernel.
    #[must_use]
    pub fn local(links: &[Link]) -> Self {
        Self { devices: devices(links), programs: trial::loaded_programs("cil_") }
    }

    /// Something to say only where there is something.
    #[must_use]
    pub fn judge(&self) -> Option<Finding> {
        let devices = self.devices.iter().map(|name| format!("device {name}"));
        let programs = self.programs.iter().map(|name| format!("program {name}"));
        let all: Vec<String> = devices.chain(programs).collect();
        let shown = all.get(..3).unwrap_or(&all).join(", ");
        let more = match all.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!all.is_empty()).then(|| {
            Finding::warn(
                "Cilium",
                format!("{shown}{more}"),
                "its own kube-proxy replacement translates the same packets, and its BPF host routing \
                 (bpf_redirect_peer) takes packets of pods past Weir's programs: set \
                 kubeProxyReplacement=false and bpf.hostLegacyRouting=true in its Helm values, and \
                 restart its agent",
            )
        })
    }
}

fn devices(links: &[Link]) -> Vec<String> {
    // LXC names bridges so, too.
    let is_pod =
        |link: &Link| link.name.starts_with("lxc") && ["veth", "netkit"].contains(&&*link.kind);
    let is_its =
        |link: &&Link| ["cilium_host", "cilium_net"].contains(&&*link.name) || is_pod(link);
    links.iter().filter(is_its).map(|link| link.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;

    fn link(name: &str, kind: &str) -> Link {
        Link { name: name.into(), kind: kind.into(), ..Link::default() }
    }

    #[test]
    fn its_devices_are_known_by_their_names_and_lxcs_bridge_is_not_one() {
        let links = [
            link("eth0", ""),
            link("cilium_host", "veth"),
            link("cilium_net", "veth"),
            link("lxc4f1c", "veth"),
            link("lxcbr0", "bridge"),
        ];
        assert_eq!(devices(&links), ["cilium_host", "cilium_net", "lxc4f1c"]);
    }

    #[test]
    fn it_is_warned_of_with_the_values_that_keep_it_out_of_the_way() {
        let none = Cilium { devices: Vec::new(), programs: Vec::new() };
        assert_eq!(none.judge(), None);
        let names = ["cilium_host", "cilium_net", "lxc1", "lxc2"].map(str::to_owned);
        let finding = Cilium { devices: names.into(), ..none.clone() }.judge().unwrap();
        assert_eq!(finding.level, Level::Warn);
        assert_eq!(finding.found, "device cilium_host, device cilium_net, device lxc1 and 1 more");
        let programs = vec!["cil_from_netdev".to_owned()];
        let finding = Cilium { programs, ..none }.judge().unwrap();
        assert_eq!(finding.found, "program cil_from_netdev");
        let advice = finding.advice.unwrap();
        for value in ["kubeProxyReplacement=false", "bpf.hostLegacyRouting=true"] {
            assert!(advice.contains(value), "{advice}");
        }
    }
}
