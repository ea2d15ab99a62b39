//! Which XDP attach point a device gets: a decision on plain facts.

use crate::config::XdpMode;
use crate::host::devices::{Device, LinkLayer};
use crate::model::DeviceRole;
use crate::pins::AttachPoint;

/// The XDP attach point of `device`, or why it has none.
///
/// # Errors
/// The reason in words.
pub fn attach_point(device: &Device, wanted: XdpMode) -> Result<AttachPoint, &'static str> {
    if device.role != Some(DeviceRole::Network) {
        return Err("only network-facing devices have XDP");
    }
    if device.link.link_layer != LinkLayer::Ethernet {
        return Err("its packets have no Ethernet header: TC alone");
    }
    match wanted {
        XdpMode::Native => Ok(AttachPoint::XdpNative),
        XdpMode::Generic => Ok(AttachPoint::XdpGeneric),
        XdpMode::Off => Err("--xdp off"),
        XdpMode::Auto => match device.link.kind.as_str() {
            "bond" if device.is_over_veth => {
                Err("what XDP sends back into a veth is lost: TC alone")
            }
            "" | "bond" => Ok(AttachPoint::XdpNative),
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
        Device {
            link: Link { kind: kind.into(), ..Link::default() },
            role: Some(role),
            reason: "",
            destination: [0; 6],
            is_over_veth: false,
        }
    }

    #[test]
    fn by_default_xdp_runs_on_hardware_alone() {
        assert_eq!(
            attach_point(&device("", DeviceRole::Network), XdpMode::Auto),
            Ok(AttachPoint::XdpNative)
        );
        let bond = device("bond", DeviceRole::Network);
        assert_eq!(attach_point(&bond, XdpMode::Auto), Ok(AttachPoint::XdpNative));
        let over_veth = Device { is_over_veth: true, ..bond };
        assert!(attach_point(&over_veth, XdpMode::Auto).is_err());
        for kind in ["veth", "vxlan", "bridge", "vlan"] {
            assert!(attach_point(&device(kind, DeviceRole::Network), XdpMode::Auto).is_err());
        }
    }

    #[test]
    fn xdp_that_is_asked_for_is_given_to_network_devices_alone() {
        assert_eq!(
            attach_point(&device("veth", DeviceRole::Network), XdpMode::Native),
            Ok(AttachPoint::XdpNative)
        );
        assert_eq!(
            attach_point(&device("veth", DeviceRole::Network), XdpMode::Generic),
            Ok(AttachPoint::XdpGeneric)
        );
        assert!(attach_point(&device("veth", DeviceRole::Pod), XdpMode::Native).is_err());
        assert!(attach_point(&device("", DeviceRole::Network), XdpMode::Off).is_err());
    }
}
