//! Log lines and systemd notifications.

use tracing::{error, info, warn};

use crate::config::Config;
use crate::datapath::attach::{AttachedDevice, Tc};
use crate::datapath::load_error::LoadError;

/// The programs are in the kernel; `without_xdp` is why one is not.
pub fn loaded(config: &Config, tc: Tc, without_xdp: Option<&LoadError>) {
    let (version, node) = (env!("CARGO_PKG_VERSION"), &config.node_name);
    info!(%node, %tc, pins = %config.pin_directory.display(), "weir {version}: programs loaded");
    if let Some(error) = without_xdp {
        warn!("no XDP, TC alone: {error}");
    }
}

/// The first complete plan is in the kernel.
pub fn ready() {
    info!("ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd could not be notified: {error}");
    }
}

/// Devices that have changed.
pub fn device_changes(before: &[AttachedDevice], after: &[AttachedDevice]) {
    let index = |attached: &AttachedDevice| attached.device.link.index;
    for attached in after {
        let known = before.iter().find(|known| index(known) == index(attached));
        if known != Some(attached) {
            device_change(known, attached);
        }
    }
    let gone =
        |known: &&AttachedDevice| !after.iter().any(|attached| index(attached) == index(known));
    for known in before.iter().filter(gone).filter(|known| known.device.role.is_some()) {
        info!("{} is gone", known.device.link.name);
    }
}

fn device_change(before: Option<&AttachedDevice>, attached: &AttachedDevice) {
    for error in &attached.errors {
        error!("{error}");
    }
    let (name, reason) = (&attached.device.link.name, attached.device.reason);
    let before = before.map(|before| (before.device.role, &before.attach_points));
    match (before, attached.device.role) {
        (Some(before), role) if before == (role, &attached.attach_points) => {}
        (None | Some((None, _)), None) => {}
        (Some(_), None) => info!(reason, "{name} is left alone"),
        (_, Some(role)) => {
            let attach_points: Vec<&str> =
                attached.attach_points.iter().map(|point| point.name()).collect();
            let (attach_points, without_xdp) =
                (attach_points.join(","), attached.without_xdp.as_deref());
            info!(%attach_points, reason, without_xdp, "{name} faces {role}");
        }
    }
}
