//! What the agent tells people and systemd of its work.

use tracing::{error, info, warn};

use crate::programs::attach::Attached;

/// The first complete plan is in the kernel.
pub fn ready() {
    info!("ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!("systemd could not be told: {error}");
    }
}

/// Logs what has changed about devices.
pub fn of_devices(before: &[Attached], after: &[Attached]) {
    for attached in after.iter().filter(|attached| !before.contains(attached)) {
        for problem in &attached.problems {
            error!("{problem}");
        }
        let link = &attached.device.link;
        let known = before.iter().find(|b| b.device.link.index == link.index);
        let hooks = known.map(|known| (&known.hooks, known.device.role));
        if hooks.is_some_and(|known| known == (&attached.hooks, attached.device.role)) {
            continue;
        }
        if let Some(role) = attached.device.role {
            let hooks: Vec<&str> = attached.hooks.iter().map(|hook| hook.name()).collect();
            let (name, hooks) = (&link.name, hooks.join(","));
            info!(%hooks, reason = attached.device.reason, "{name} faces {role}");
        } else if known.is_some_and(|known| known.device.role.is_some()) {
            info!("{} is left alone: {}", link.name, attached.device.reason);
        }
    }
}
