//! The programs by their names in the object.

/// A program for packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Program {
    /// TC, ingress of pod-facing devices.
    FromPod,
    /// TC, ingress of network-facing devices.
    FromNetwork,
    /// TC, egress of either.
    ToDevice,
    /// XDP of network-facing devices.
    NetworkXdp,
}

impl Program {
    /// Those every device needs.
    pub const TC: [Self; 3] = [Self::FromPod, Self::FromNetwork, Self::ToDevice];

    /// The name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::FromNetwork => "from_network",
            Self::ToDevice => "to_device",
            Self::NetworkXdp => "network_xdp",
        }
    }
}

impl Program {
    /// The name of the one with the datapath log.
    #[must_use]
    pub const fn name_with_log(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod_log",
            Self::FromNetwork => "from_network_log",
            Self::ToDevice => "to_device_log",
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

/// The program at connect(2) that reads the cookie of the caller's network namespace.
pub const NETNS_COOKIE_PROGRAM: &str = "own_namespace";
