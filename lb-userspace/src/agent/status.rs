//! The agent's status for other processes: what is in no map.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::datapath::attach::{AttachedDevice, Tc};
use crate::model::{DeviceRole, Warning};

/// The content of `status.json` in the runtime directory.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub process: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// Its version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// The first complete plan is in the kernel.
    pub ready: bool,
    /// How programs are attached at TC: `tcx` or `clsact`.
    pub tc: String,
    /// Whose sockets are balanced: `host`, `all` or `off`.
    #[serde(default)]
    pub socket_balancing: String,
    /// The control group that the socket programs are attached to, if they are.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// What could not be honoured in the cluster's objects.
    pub warnings: Vec<WarningText>,
    /// What failed on this node, each with what to do.
    pub errors: Vec<String>,
    /// Devices with a role.
    pub devices: Vec<DeviceStatus>,
}

impl Status {
    /// The status of this process, which starts now.
    #[must_use]
    pub fn of_start(config: &Config, tc: Tc) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            process: std::process::id(),
            started: since_1970.as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
            node: config.node_name.clone(),
            tc: tc.to_string(),
            socket_balancing: config.socket_balancing.to_string(),
            ..Self::default()
        }
    }
}

/// A [`Warning`] as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WarningText {
    /// The object.
    pub about: String,
    /// What is not done, and why.
    pub text: String,
}

impl From<&Warning> for WarningText {
    fn from(warning: &Warning) -> Self {
        Self { about: warning.about.clone(), text: warning.text.clone() }
    }
}

/// A device and the programs on it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Interface name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// `pod` or `network`.
    pub role: String,
    /// Why it has that role.
    pub reason: String,
    /// Where programs are on it: `ingress`, `egress`, `xdp-native`, `xdp-generic`.
    pub attach_points: Vec<String>,
    /// Why XDP is not among them.
    pub without_xdp: Option<String>,
}

impl DeviceStatus {
    /// The status of a device, unless Weir leaves it alone.
    #[must_use]
    pub fn of(attached: &AttachedDevice) -> Option<Self> {
        let role = match attached.device.role? {
            DeviceRole::Pod => "pod",
            DeviceRole::Network => "network",
        };
        Some(Self {
            name: attached.device.link.name.clone(),
            index: attached.device.link.index,
            role: role.into(),
            reason: attached.device.reason.into(),
            attach_points: attached.attach_points.iter().map(ToString::to_string).collect(),
            without_xdp: attached.without_xdp.clone(),
        })
    }
}
