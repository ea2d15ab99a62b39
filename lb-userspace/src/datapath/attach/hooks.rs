//! Which hooks a device gets: a decision on plain facts.

use std::fmt;

use crate::config::XdpMode;
use crate::host::devices::Device;
use crate::model::DeviceRole;

/// A place on a device where one of our programs runs. Its name is part of a link's pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// TC, packets on their way into the stack.
    Ingress,
    /// TC, packets on their way out of the stack.
    Egress,
    /// XDP in the device's driver.
    XdpNative,
    /// XDP in front of the stack, for devices whose driver has none.
    XdpGeneric,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::XdpNative, Self::XdpGeneric];

    /// The name of this hook in pins and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The hook called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// Whether this is one of the XDP hooks.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The XDP hook `device` gets, or why it gets none.
///
/// # Errors
/// The reason in words.
pub fn xdp(device: &Device, wanted: XdpMode) -> Result<Hook, &'static str> {
    if device.role != Some(DeviceRole::Network) {
        return Err("only network-facing devices have XDP");
    }
    match wanted {
        XdpMode::Native => Ok(Hook::XdpNative),
        XdpMode::Generic => Ok(Hook::XdpGeneric),
        XdpMode::Off => Err("--xdp off"),
        XdpMode::Auto => match device.link.kind.as_str() {
            "" | "bond" => Ok(Hook::XdpNative),
            // Without an XDP program on its peer a veth drops every frame that XDP sends back, and
            // frames of local senders carry half a checksum that XDP cannot see.
            "veth" => Err("what XDP sends back into a veth is lost: TC alone"),
            _ => Err("a virtual device without XDP in its driver: TC alone"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::devices::Link;

    fn device(kind: &str, role: DeviceRole) -> Device {
        Device { link: Link { kind: kind.into(), ..Link::default() }, role: Some(role), reason: "" }
    }

    #[test]
    fn hooks_are_found_by_their_names() {
        for hook in Hook::ALL {
            assert_eq!(Hook::from_name(hook.name()), Some(hook));
        }
        assert_eq!(Hook::from_name("sideways"), None);
    }

    #[test]
    fn by_default_xdp_runs_on_hardware_alone() {
        assert_eq!(xdp(&device("", DeviceRole::Network), XdpMode::Auto), Ok(Hook::XdpNative));
        for kind in ["veth", "vxlan", "bridge", "vlan"] {
            assert!(xdp(&device(kind, DeviceRole::Network), XdpMode::Auto).is_err());
        }
    }

    #[test]
    fn xdp_that_is_asked_for_is_given_to_network_devices_alone() {
        assert_eq!(xdp(&device("veth", DeviceRole::Network), XdpMode::Native), Ok(Hook::XdpNative));
        assert_eq!(
            xdp(&device("veth", DeviceRole::Network), XdpMode::Generic),
            Ok(Hook::XdpGeneric)
        );
        assert!(xdp(&device("veth", DeviceRole::Pod), XdpMode::Native).is_err());
        assert!(xdp(&device("", DeviceRole::Network), XdpMode::Off).is_err());
    }
}
