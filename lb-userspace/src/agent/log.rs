//! What the agent tells people and systemd of its work.

use tracing::{error, info, warn};

use crate::config::Config;
use crate::datapath::attach::{Attached, Tc};
use crate::datapath::loader::ObjectError;

/// The programs are in the kernel; `without_xdp` is why one is not.
pub fn loaded(config: &Config, tc: Tc, without_xdp: Option<&ObjectError>) {
    let (version, node) = (env!("CARGO_PKG_VERSION"), &config.node_name);
    info!(%node, %tc, pins = %config.pin_directory.display(), "weir {version}: programs loaded");
    if let Some(error) = without_xdp {
        warn!("TC does without XDP: {error}");
    }
}

/// The first complete plan is in the kernel.
pub fn ready() {
    info!("ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd could not be told: {error}");
    }
}

/// What has changed about devices.
pub fn of_devices(before: &[Attached], after: &[Attached]) {
    let index = |attached: &Attached| attached.device.link.index;
    for attached in after {
        let known = before.iter().find(|known| index(known) == index(attached));
        if known != Some(attached) {
            of_device(known, attached);
        }
    }
    let gone = |known: &&Attached| !after.iter().any(|attached| index(attached) == index(known));
    for known in before.iter().filter(gone).filter(|known| known.device.role.is_some()) {
        info!("{} is gone", known.device.link.name);
    }
}

fn of_device(known: Option<&Attached>, attached: &Attached) {
    for error in &attached.errors {
        error!("{error}");
    }
    let (name, reason) = (&attached.device.link.name, attached.device.reason);
    let before = known.map(|known| (known.device.role, &known.hooks));
    match (before, attached.device.role) {
        (Some(before), role) if before == (role, &attached.hooks) => {}
        (None | Some((None, _)), None) => {}
        (Some(_), None) => info!(reason, "{name} is left alone"),
        (_, Some(role)) => {
            let hooks: Vec<&str> = attached.hooks.iter().map(|hook| hook.name()).collect();
            let (hooks, without_xdp) = (hooks.join(","), attached.without_xdp.as_deref());
            info!(%hooks, reason, without_xdp, "{name} faces {role}");
        }
    }
}
