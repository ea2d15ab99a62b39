//! Roles of devices over time, and the default routes that leave by them. A device that loses its role while it is there
//! keeps it for a while: a DHCP client that renews a lease, or an administrator who replaces an address, takes the address
//! away for a moment, and programs that were detached from a live device would leave its connections untranslated. So it
//! is with a default route: without one, UDP sockets of the node at cluster IPs would be destroyed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::host::devices::Device;
use crate::model::{DefaultRoutes, DeviceRole};

/// How long a device keeps the role, or the default route, that it would lose.
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
    /// Whether default routes of IPv4 and of IPv6 leave by it.
    routes: [KeptRoute; 2],
}

/// Whether a default route leaves by a device.
#[derive(Clone, Copy, Default, Debug)]
enum KeptRoute {
    /// One does.
    Leaves,
    /// One did until this moment.
    GoneSince(Instant),
    /// None does.
    #[default]
    None,
}

impl Roles {
    /// Gives devices the role and the default routes that they had where they would lose them, unless they would for
    /// [`SETTLING`] already. Returns when the first of them is to be looked at again.
    pub fn settle(&mut self, devices: &mut [Device], now: Instant) -> Option<Instant> {
        let mut before = std::mem::take(&mut self.known);
        let mut again = None;
        for device in devices {
            let index = device.link.index;
            let Some(mut kept) = Kept::of(device, before.remove(&index), now) else { continue };
            (device.role, device.reason) = (Some(kept.role), kept.reason);
            let DefaultRoutes { v4, v6 } = &mut device.link.main_default_routes;
            for (kept, leaves) in kept.routes.iter_mut().zip([v4, v6]) {
                *leaves = kept.settle(*leaves, now);
            }
            again = again.into_iter().chain(kept.settles()).min();
            self.known.insert(index, kept);
        }
        again
    }

    /// The interface indices of devices that have a role.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        self.known.keys().copied()
    }
}

impl Kept {
    /// What is kept of a device that was `known` before, with its role; `None` if it has none.
    fn of(device: &Device, known: Option<Self>, now: Instant) -> Option<Self> {
        let name = &device.link.name;
        if let Some(mut kept) = known.filter(|known| Some(known.role) != device.role) {
            if kept.differs_since.is_none() {
                info!("{name} would lose its role: it keeps it for {SETTLING:?}");
            }
            if now < *kept.differs_since.get_or_insert(now) + SETTLING {
                return Some(kept);
            }
        } else if known.is_some_and(|known| known.differs_since.is_some()) {
            info!("{name} has its role again");
        }
        let routes = known.map(|known| known.routes).unwrap_or_default();
        Some(Self { role: device.role?, reason: device.reason, differs_since: None, routes })
    }

    /// When the first thing that it would have lost is lost.
    fn settles(&self) -> Option<Instant> {
        let gone = self.routes.iter().filter_map(|route| match route {
            KeptRoute::GoneSince(since) => Some(*since),
            KeptRoute::Leaves | KeptRoute::None => None,
        });
        self.differs_since.into_iter().chain(gone).min().map(|since| since + SETTLING)
    }
}

impl KeptRoute {
    /// Whether a default route counts as leaving by the device, where one does or does not.
    fn settle(&mut self, leaves: bool, now: Instant) -> bool {
        *self = match *self {
            _ if leaves => Self::Leaves,
            Self::Leaves => Self::GoneSince(now),
            Self::GoneSince(since) if now < since + SETTLING => *self,
            Self::GoneSince(_) | Self::None => Self::None,
        };
        !matches!(self, Self::None)
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

    #[test]
    fn a_default_route_that_flaps_is_kept_in_its_family() {
        let (mut roles, start) = (Roles::default(), Instant::now());
        let mut settled = |seconds, v4, v6| {
            let mut devices = [device(2, Some(DeviceRole::Network))];
            devices[0].link.main_default_routes = DefaultRoutes { v4, v6 };
            let again = roles.settle(&mut devices, start + Duration::from_secs(seconds));
            let DefaultRoutes { v4, v6 } = devices[0].link.main_default_routes;
            ((v4, v6), again.map(|again| (again - start).as_secs()))
        };
        assert_eq!(settled(0, true, false), ((true, false), None));
        assert_eq!(settled(1, false, false), ((true, false), Some(31)));
        assert_eq!(settled(2, false, true), ((true, true), Some(31)));
        assert_eq!(settled(30, true, false), ((true, true), Some(60)), "counted anew");
        assert_eq!(settled(40, false, false), ((true, true), Some(60)));
        assert_eq!(settled(60, false, false), ((true, false), Some(70)));
        assert_eq!(settled(70, false, false), ((false, false), None));
        assert_eq!(settled(71, true, true), ((true, true), None), "it counts at once");
    }

    #[test]
    fn default_routes_of_a_device_without_a_role_or_that_is_gone_are_not_kept() {
        let (mut roles, start) = (Roles::default(), Instant::now());
        let routed = |role| {
            let mut device = device(2, role);
            device.link.main_default_routes = DefaultRoutes { v4: true, v6: true };
            device
        };
        let network = Some(DeviceRole::Network);
        roles.settle(&mut [routed(None)], start);
        let mut devices = [device(2, network)];
        assert_eq!(roles.settle(&mut devices, start), None);
        assert!(!devices[0].link.main_default_routes.is_any());
        roles.settle(&mut [routed(network)], start);
        roles.settle(&mut [], start);
        assert_eq!(roles.settle(&mut devices, start), None);
        assert!(!devices[0].link.main_default_routes.is_any());
    }
}
