//! The devices whose packets Weir sees, and why it does not see those of others.

use std::collections::BTreeSet;

use lb_common::conntrack::HookPoint;
use serde::Serialize;

use crate::agent::status::Status;
use crate::config::DeviceNames;
use crate::host::devices::{Device, Link, Selection, classify};
use crate::model::DeviceRole;
use crate::pins::AttachPoint;

/// The programs on this node's devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    links: Vec<Link>,
    /// By the agent's status and by the pins; `None` if neither tells.
    attached: Option<BTreeSet<(u32, AttachPoint)>>,
    /// The devices with a role in the agent's status, if there is one.
    served: Option<BTreeSet<u32>>,
}

/// Why no program sees packets at a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Unseen {
    /// The device, and why it has no programs there.
    pub because: String,
    /// What to change.
    pub advice: String,
}

impl Programs {
    /// Those in the agent's `status` and among the `pinned` links. Filters of clsact have no pins: where no
    /// link at TC is pinned and there is no status, nothing is known.
    pub fn of(links: Vec<Link>, status: Option<&Status>, pinned: Vec<(u32, AttachPoint)>) -> Self {
        let tells = status.is_some() || pinned.iter().any(|(_, point)| !point.is_xdp());
        let devices = status.iter().flat_map(|status| &status.devices);
        let published = devices.flat_map(|device| {
            let points = device.attach_points.iter();
            points.filter_map(|point| Some((device.index, AttachPoint::from_name(point)?)))
        });
        let attached = tells.then(|| published.chain(pinned).collect());
        let served = status.map(|status| status.devices.iter().map(|one| one.index).collect());
        Self { links, attached, served }
    }

    /// Why no program sees the packets at this side of a device; `None` if one does, or nothing is known. The
    /// packets of a bridge or bond without programs are seen at its ports.
    pub fn unseen(&self, device: u32, point: HookPoint) -> Option<Unseen> {
        let has_any = |point| {
            self.has(device, point) || self.ports(device).any(|port| self.has(port.index, point))
        };
        if has_any(point) {
            return None;
        }
        let name = self.name(device);
        let (reason, advice) = self.reason(device);
        let programs = match point {
            HookPoint::Egress if has_any(HookPoint::Ingress) => "program at egress",
            HookPoint::Ingress if has_any(HookPoint::Egress) => "program at ingress",
            HookPoint::Ingress | HookPoint::Egress => "programs",
        };
        Some(Unseen { because: format!("{name} has no {programs} ({reason})"), advice })
    }

    /// Where a device's packets are seen, in words: on itself, or on its ports.
    pub fn seen_at(&self, device: u32) -> String {
        let name = self.name(device);
        let is_itself = self.has(device, HookPoint::Ingress) || self.ports(device).next().is_none();
        if is_itself { name } else { format!("port of {name}") }
    }

    /// A device's name.
    pub fn name(&self, device: u32) -> String {
        let link = self.links.iter().find(|link| link.index == device);
        link.map_or_else(|| format!("device {device}"), |link| link.name.clone())
    }

    fn has(&self, device: u32, point: HookPoint) -> bool {
        let points: &[AttachPoint] = match point {
            HookPoint::Ingress => {
                &[AttachPoint::Ingress, AttachPoint::XdpNative, AttachPoint::XdpGeneric]
            }
            HookPoint::Egress => &[AttachPoint::Egress],
        };
        self.attached
            .as_ref()
            .is_none_or(|attached| points.iter().any(|point| attached.contains(&(device, *point))))
    }

    fn ports(&self, device: u32) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.port_of == Some(device))
    }

    /// Why a device has no programs, and what to change.
    fn reason(&self, device: u32) -> (&'static str, String) {
        let list = "`weir show devices` lists the devices that have programs";
        let Some(served) = &self.served else {
            return ("no link is pinned", format!("{list}; start the agent"));
        };
        if served.contains(&device) {
            return ("attaching failed", "`weir show status` and the agent's log say why".into());
        }
        let name = self.name(device);
        let default = self.classified(device, &Selection::default());
        let (flag, reason) = match default.as_ref().map(|found| (found.role, found.reason)) {
            Some((Some(DeviceRole::Pod), _)) => {
                ("--pod-devices", "not among --pod-devices, or newer than the agent's status")
            }
            Some((Some(DeviceRole::Network), _)) => (
                "--network-devices",
                "not among --network-devices, or newer than the agent's status",
            ),
            Some((None, reason)) => ("--network-devices", reason),
            None => return ("it is gone", list.into()),
        };
        // What a flag cannot name, such as a name with a comma, is not advised.
        let named: Option<DeviceNames> = name.parse().ok();
        let selection = Selection { network: named, pods: None };
        let helps = self.classified(device, &selection).is_some_and(|found| found.role.is_some());
        let advice = if helps {
            format!("{list}; `{flag} {name}`, with the others beside it, adds {name}")
        } else {
            list.into()
        };
        (reason, advice)
    }

    fn classified(&self, device: u32, selection: &Selection) -> Option<Device> {
        classify(&self.links, selection).into_iter().find(|found| found.link.index == device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), ..Link::default() }
    }

    /// eth0 and the bridge cni0 with a pod; eth1 with a subnet, and dummy0, have no programs.
    fn links() -> Vec<Link> {
        let subnet = vec!["198.18.0.1/24".parse().unwrap()];
        vec![
            link(2, "eth0"),
            Link { addresses: subnet, ..link(3, "eth1") },
            Link { kind: "bridge".into(), ..link(4, "cni0") },
            Link { port_of: Some(4), kind: "veth".into(), ..link(5, "veth1") },
            Link { kind: "dummy".into(), ..link(6, "dummy0") },
        ]
    }

    fn because(programs: &Programs, device: u32, point: HookPoint) -> String {
        programs.unseen(device, point).map_or_else(String::new, |unseen| unseen.because)
    }

    #[test]
    fn a_device_without_programs_is_unseen_for_a_reason() {
        let mut status = sample::status();
        let programs = Programs::of(links(), Some(&status), Vec::new());
        assert_eq!(programs.unseen(2, HookPoint::Ingress), None);
        let unseen = programs.unseen(3, HookPoint::Ingress).unwrap();
        let flag = "eth1 has no programs (not among --network-devices, ";
        assert!(unseen.because.starts_with(flag), "{unseen:?}");
        assert!(unseen.advice.contains("weir show devices"), "{unseen:?}");
        assert!(unseen.advice.contains("`--network-devices eth1`"), "{unseen:?}");
        let nothing = "dummy0 has no programs (nothing arrives by such a device)";
        assert_eq!(because(&programs, 6, HookPoint::Ingress), nothing);
        assert_eq!(
            because(&programs, 9, HookPoint::Ingress),
            "device 9 has no programs (it is gone)"
        );
        status.devices[0].attach_points = vec!["ingress".into()];
        let programs = Programs::of(links(), Some(&status), Vec::new());
        assert_eq!(programs.unseen(2, HookPoint::Ingress), None);
        let failed = "eth0 has no program at egress (attaching failed)";
        assert_eq!(because(&programs, 2, HookPoint::Egress), failed);
    }

    #[test]
    fn the_packets_of_a_bridge_are_seen_at_its_ports() {
        let pinned = vec![(5, AttachPoint::Ingress), (2, AttachPoint::XdpNative)];
        let programs = Programs::of(links(), None, pinned);
        assert_eq!(programs.unseen(4, HookPoint::Ingress), None);
        assert_eq!(programs.seen_at(4), "port of cni0");
        assert_eq!(programs.seen_at(5), "veth1");
        assert_eq!(programs.unseen(2, HookPoint::Ingress), None);
        assert!(because(&programs, 3, HookPoint::Ingress).ends_with("(no link is pinned)"));
        let none = Programs::of(links(), Some(&sample::status()), Vec::new());
        let bridge = "cni0 has no programs (a bridge of pods: its ports are taken instead)";
        assert_eq!(because(&none, 4, HookPoint::Ingress), bridge);
    }

    #[test]
    fn without_a_status_or_a_link_at_tc_nothing_is_known() {
        for pinned in [vec![], vec![(2, AttachPoint::XdpNative)]] {
            let programs = Programs::of(links(), None, pinned);
            assert_eq!(programs.unseen(3, HookPoint::Ingress), None);
        }
    }
}
