//! Devices, the programs on them, and why.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::Table;
use lb_common::address::Address;
use serde::Serialize;

use super::snapshot::Snapshot;
use crate::agent::status::DeviceStatus;
use crate::cli::output::{Report, table};
use crate::pins::AttachPoint;

/// Devices, ordered by interface index.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Devices {
    devices: Vec<Device>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Device {
    /// Interface index.
    index: u32,
    /// Interface name, as the agent last published it.
    name: Option<String>,
    /// `pod` or `network`, as the agent last published it.
    role: Option<String>,
    /// Why it has that role.
    reason: Option<String>,
    /// Where programs are attached: `ingress`, `egress`, `xdp-native`, `xdp-generic`.
    attach_points: BTreeSet<String>,
    /// Why XDP is not among them.
    without_xdp: Option<String>,
    /// The addresses for SNAT at this device.
    addresses: Vec<String>,
}

impl Devices {
    /// Those in the agent's status, with a row, or with a pinned link.
    pub fn of(snapshot: &Snapshot, links: &[(u32, AttachPoint)]) -> Self {
        let mut devices: BTreeMap<u32, Device> = BTreeMap::new();
        for status in snapshot.status.iter().flat_map(|status| &status.devices) {
            at(&mut devices, status.index).set_status(status, snapshot.is_running);
        }
        for (index, point) in links {
            at(&mut devices, *index).attach_points.insert(point.to_string());
        }
        for (index, row) in &snapshot.contents.devices {
            let of = |is_set: bool, text: String| is_set.then_some(text);
            let v4 = of(!row.v4.is_unspecified(), row.v4.to_string());
            let v6 = of(!row.v6.is_unspecified(), row.v6.to_string());
            at(&mut devices, *index).addresses = [v4, v6].into_iter().flatten().collect();
        }
        Self { devices: devices.into_values().collect(), notes: snapshot.absence() }
    }
}

fn at(devices: &mut BTreeMap<u32, Device>, index: u32) -> &mut Device {
    devices.entry(index).or_insert_with(|| Device { index, ..Device::default() })
}

impl Device {
    /// Takes over the agent's status; attach points only while it runs, as only pinned links stay afterwards.
    fn set_status(&mut self, status: &DeviceStatus, is_running: bool) {
        self.name = Some(status.name.clone());
        self.role = Some(status.role.clone());
        self.reason = Some(status.reason.clone());
        self.without_xdp.clone_from(&status.without_xdp);
        if is_running {
            self.attach_points.extend(status.attach_points.iter().cloned());
        }
    }
}

impl Report for Devices {
    fn table(&self, wide: bool) -> Table {
        let mut header = vec!["DEVICE", "FACES", "PROGRAMS", "BECAUSE"];
        if wide {
            header.extend(["NO XDP BECAUSE", "ADDRESSES", "INDEX"]);
        }
        let row = |device: &Device| {
            let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
            let attach_points: Vec<&str> =
                device.attach_points.iter().map(String::as_str).collect();
            let mut row = vec![
                text(&device.name),
                text(&device.role),
                attach_points.join(","),
                text(&device.reason),
            ];
            if wide {
                row.extend([
                    device.without_xdp.clone().unwrap_or_default(),
                    device.addresses.join(","),
                    device.index.to_string(),
                ]);
            }
            row
        };
        table(&header, self.devices.iter().map(row))
    }

    fn notes(&self, _: bool) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, trimmed};

    const LINKS: [(u32, AttachPoint); 2] = [(2, AttachPoint::Ingress), (9, AttachPoint::Egress)];

    #[test]
    fn devices_are_listed_from_the_status_and_the_pins() {
        let devices = Devices::of(&Snapshot::sample(), &LINKS);
        insta::assert_snapshot!(trimmed(&devices.table(true)));
    }

    #[test]
    fn the_fields_of_a_device_are_these() {
        insta::assert_snapshot!(
            json(&Devices::of(&Snapshot::sample(), &LINKS).devices[0]).unwrap()
        );
    }

    #[test]
    fn only_pinned_links_count_as_programs_once_the_agent_has_ended() {
        let snapshot = Snapshot { is_running: false, ..Snapshot::sample() };
        let devices = Devices::of(&snapshot, &LINKS);
        assert_eq!(devices.devices[0].attach_points, BTreeSet::from(["ingress".into()]));
        assert_eq!(devices.notes.len(), 1);
    }
}
