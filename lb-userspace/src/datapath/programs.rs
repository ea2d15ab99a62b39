//! The programs by their names in the object.

use lb_common::maps::Successor;

use crate::config::DatapathLog;

/// A program for packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Program {
    /// TC, ingress of pod-facing devices.
    FromPod,
    /// TC, ingress of network-facing devices.
    FromNetwork,
    /// TC, egress of either.
    ToDevice,
    /// TC, ingress of network-facing devices whose packets have no link header.
    FromNetworkL3,
    /// TC, egress of devices whose packets have no link header.
    ToDeviceL3,
    /// XDP of network-facing devices.
    NetworkXdp,
}

impl Program {
    /// Those that every node needs.
    pub const TC: [Self; 3] = [Self::FromPod, Self::FromNetwork, Self::ToDevice];

    /// Those that are loaded where a device needs them.
    pub const L3: [Self; 2] = [Self::FromNetworkL3, Self::ToDeviceL3];

    /// The program that takes the place of `successor`.
    #[must_use]
    pub const fn of_successor(successor: Successor) -> Self {
        match successor {
            Successor::FromPod => Self::FromPod,
            Successor::FromNetwork => Self::FromNetwork,
            Successor::ToDevice => Self::ToDevice,
            Successor::ToDeviceL3 => Self::ToDeviceL3,
        }
    }

    /// The name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::FromNetwork => "from_network",
            Self::ToDevice => "to_device",
            Self::FromNetworkL3 => "from_network_l3",
            Self::ToDeviceL3 => "to_device_l3",
            Self::NetworkXdp => "network_xdp",
        }
    }
}

impl Program {
    /// The name of the one to load.
    #[must_use]
    pub const fn name_for(self, log: DatapathLog) -> &'static str {
        match log {
            DatapathLog::Off => self.name(),
            DatapathLog::Debug | DatapathLog::Trace => self.name_with_log(),
        }
    }

    /// The name of the one with the datapath log.
    #[must_use]
    pub const fn name_with_log(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod_log",
            Self::FromNetwork => "from_network_log",
            Self::ToDevice => "to_device_log",
            Self::FromNetworkL3 => "from_network_l3_log",
            Self::ToDeviceL3 => "to_device_l3_log",
            Self::NetworkXdp => "network_xdp_log",
        }
    }
}

/// The programs for processes' sockets, by their names in the object and in their pins. Those that undo
/// the translation for a process come before those that translate, and go after them.
pub const SOCKET_PROGRAMS: [&str; 8] = [
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
];

/// Those of them that undo the translation.
pub const UNDOING: [&str; 4] = ["recvmsg4", "recvmsg6", "getpeername4", "getpeername6"];

/// The program at connect(2) that reads the cookie of the caller's network namespace.
pub const NETNS_COOKIE_PROGRAM: &str = "own_namespace";
