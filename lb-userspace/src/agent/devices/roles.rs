//! Roles of devices over time. A device that loses its role while it is there keeps it for a while: a DHCP client that
//! renews a lease, or an administrator who replaces an address, takes the address away for a moment, and programs that
//! were detached from a live device would leave its connections untranslated.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::host::devices::Device;
use crate::model::DeviceRole;

/// How long a device keeps the role that it would lose.
pub const SETTLING: Duration = Duration::from_secs(30);

/// The roles that devices have.
#[derive(Debug, Default)]
pub struct Roles {
    known: BTreeMap<u32, Kept>,
}

/// The role that a device has, and keeps for a while.
#[derive(Clone, Copy, Debug)]
struct Kept {
    role: DeviceRole,
    reason: &'static str,
    /// Since when it would have another, or none.
    differs_since: Option<Instant>,
}

impl Roles {
    /// Gives devices the role that they had where they would lose it, unless they would for [`SETTLING`] already. Returns
    /// when the first of them is to be looked at again.
    pub fn settle(&mut self, devices: &mut [Device], now: Instant) -> Option<Instant> {
        let mut before = std::mem::take(&mut self.known);
        let mut again = None;
        for device in devices {
            let index = device.link.index;
            let known = before.remove(&index);
            if let Some(mut kept) = known.filter(|known| Some(known.role) != device.role) {
                if kept.differs_since.is_none() {
                    info!("{} would lose its role: it keeps it for {SETTLING:?}", device.link.name);
                }
                let since = *kept.differs_since.get_or_insert(now);
                let until = since + SETTLING;
                if now < until {
                    (device.role, device.reason) = (Some(kept.role), kept.reason);
                    self.known.insert(index, kept);
                    again = Some(again.map_or(until, |again: Instant| again.min(until)));
                    continue;
                }
            }
            if known
                .is_some_and(|kept| kept.differs_since.is_some() && Some(kept.role) == device.role)
            {
                info!("{} has its role again", device.link.name);
            }
            if let Some(role) = device.role {
                let reason = device.reason;
                self.known.insert(index, Kept { role, reason, differs_since: None });
            }
        }
        again
    }

    /// The interface indices of devices that have a role.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        self.known.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::devices::Link;

    fn device(index: u32, role: Option<DeviceRole>) -> Device {
        let link = Link { index, ..Link::default() };
        Device { link, role, reason: "it has an address", destination: [0; 6], is_over_veth: false }
    }

    fn settled(roles: &mut Roles, role: Option<DeviceRole>, at: Instant) -> Option<DeviceRole> {
        let mut devices = [device(2, role)];
        roles.settle(&mut devices, at);
        devices[0].role
    }

    #[test]
    fn a_device_that_loses_its_address_for_a_moment_keeps_its_role() {
        let (mut roles, start) = (Roles::default(), Instant::now());
        let (network, at) =
            (Some(DeviceRole::Network), |seconds| start + Duration::from_secs(seconds));
        assert_eq!(settled(&mut roles, network, at(0)), network);
        assert_eq!(settled(&mut roles, None, at(1)), network);
        assert_eq!(settled(&mut roles, None, at(29)), network);
        assert_eq!(settled(&mut roles, network, at(30)), network);
        // Counted anew.
        assert_eq!(settled(&mut roles, None, at(40)), network);
        assert_eq!(settled(&mut roles, None, at(69)), network);
        assert_eq!(settled(&mut roles, None, at(70)), None);
        assert_eq!(settled(&mut roles, network, at(71)), network, "a role is given at once");
    }

    #[test]
    fn it_says_when_to_look_again_and_forgets_devices_that_are_gone() {
        let (mut roles, start) = (Roles::default(), Instant::now());
        let network = Some(DeviceRole::Network);
        assert_eq!(roles.settle(&mut [device(2, network), device(3, network)], start), None);
        assert_eq!(
            roles.settle(&mut [device(2, network), device(3, None)], start),
            Some(start + SETTLING)
        );
        assert_eq!(roles.indices().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(roles.settle(&mut [device(2, network)], start), None);
        assert_eq!(roles.indices().collect::<Vec<_>>(), [2]);
        assert_eq!(
            settled(&mut roles, Some(DeviceRole::Pod), start),
            network,
            "another role waits, too"
        );
    }
}
