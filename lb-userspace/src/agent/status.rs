//! What an agent says of itself to other processes: that which is in no map.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::datapath::attach::AttachedDevice;
use crate::model::{DeviceRole, Warning};

/// How the agent is; `status.json` in its place.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub process: u32,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// Its version.
    pub version: String,
    /// The node it believes to be on.
    pub node: String,
    /// The first complete plan is in the kernel.
    pub ready: bool,
    /// How programs are attached at TC: `tcx` or `clsact`.
    pub tc: String,
    /// Whose sockets are balanced: `host`, `all` or `off`.
    #[serde(default)]
    pub socket_balancing: String,
    /// The control group whose processes' sockets are, once programs are on it.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// What could not be honoured in the cluster's objects.
    pub warnings: Vec<WarningText>,
    /// What is not as it should be, each with what to do.
    pub errors: Vec<String>,
    /// Devices with a role.
    pub devices: Vec<DeviceStatus>,
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
