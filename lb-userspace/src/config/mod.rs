//! The settings of a run, validated: what the agent may rely on. The command line fills them; each
//! value is of a type that cannot be wrong, so nothing is checked twice.

mod capacities;
mod devices;
mod kube_proxy;
mod listen;
mod node_ports;
mod skip;

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use lb_common::maps::Capacities;
use serde_json::{Value, json};

use crate::plan::{NodePortAddresses, Skip};
use crate::source::Access;

pub use capacities::{TableSizes, capacities};
pub use devices::DeviceNames;
pub use kube_proxy::{KubeProxyError, KubeProxyFile};
pub use listen::{Listen, ListenError, Servers};
pub use node_ports::NodePortAddressesError;
pub use skip::SkipError;

/// The settings of `weir run`: flags and files, else defaults.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where the cluster's objects come from.
    pub origin: Origin,
    /// This node's name, as its Node object and endpoints' `nodeName` have it.
    pub node_name: String,
    /// Devices that lead outside; `None` to find them.
    pub network_devices: Option<DeviceNames>,
    /// Devices that lead to pods; `None` to find them.
    pub pod_devices: Option<DeviceNames>,
    /// Which devices XDP may take.
    pub xdp: XdpMode,
    /// Whose sockets are balanced.
    pub socket_balancing: SocketBalancing,
    /// The control group whose processes' sockets are; `None` for the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// Where this build's pins live: `weir/v<layout version>` within a bpffs mount.
    pub pin_directory: PathBuf,
    /// Addresses of this node that serve node ports.
    pub nodeport_addresses: NodePortAddresses,
    /// What is left to others.
    pub skip: Skip,
    /// Whether externalIPs are served.
    pub external_ips: ExternalIps,
    /// The sizes that the operator says.
    pub sizes: TableSizes,
    /// How many entries each map has: what the operator says, else by the node's memory, or what they have already.
    pub capacities: Capacities,
    /// What is served over HTTP.
    pub servers: Servers,
    /// The datapath's own log.
    pub datapath_log: DatapathLog,
}

impl Config {
    /// The settings by the names of their flags, as `/configz` shows them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let devices = |names: &Option<DeviceNames>| names.as_ref().map(ToString::to_string);
        json!({"weir": {
            "manifests": self.origin.manifests(),
            "kubeconfig": self.origin.access().and_then(|access| access.kubeconfig.as_ref()),
            "master": self.origin.access().and_then(|access| access.server.as_ref()),
            "node-name": self.node_name,
            "network-devices": devices(&self.network_devices),
            "pod-devices": devices(&self.pod_devices),
            "xdp": self.xdp.to_possible_value().map(|value| value.get_name().to_owned()),
            "socket-balancing": self.socket_balancing.to_string(),
            "cgroup": self.cgroup,
            "pins": self.pin_directory,
            "nodeport-addresses": self.nodeport_addresses.to_string(),
            "skip": self.skip.to_string(),
            "external-ips": self.external_ips.to_possible_value().map(|value| value.get_name().to_owned()),
            "conntrack-table-size": self.capacities.conntrack / 2,
            "frontend-table-size": self.capacities.frontends,
            "backend-table-size": self.capacities.backends,
            "slot-table-size": self.capacities.slots,
            "affinity-table-size": self.capacities.affinity,
            "healthz-bind-address": self.servers.healthz.to_string(),
            "metrics-bind-address": self.servers.metrics.to_string(),
            "datapath-log": self.datapath_log.to_possible_value().map(|value| value.get_name().to_owned()),
        }})
    }
}

/// How much the datapath logs of its walks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, ValueEnum)]
pub enum DatapathLog {
    /// Nothing, at no cost: the programs without the log are loaded.
    #[default]
    Off,
    /// A line a walk: hook, tuple, outcome, verdict.
    Debug,
    /// Each step of a walk, too.
    Trace,
}

/// Where the cluster's objects come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Files and directories of Kubernetes objects; at least one.
    Manifests(Vec<PathBuf>),
    /// An API server.
    Kubernetes(Access),
}

impl Origin {
    fn manifests(&self) -> Option<&[PathBuf]> {
        match self {
            Self::Manifests(paths) => Some(paths),
            Self::Kubernetes(_) => None,
        }
    }

    fn access(&self) -> Option<&Access> {
        match self {
            Self::Manifests(_) => None,
            Self::Kubernetes(access) => Some(access),
        }
    }
}

/// What becomes of `spec.externalIPs`. Anyone who can edit Services can hijack traffic with them
/// (CVE-2020-8554), and Kubernetes is about to drop them (KEP-5707).
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ExternalIps {
    /// Serve them
    #[default]
    Honour,
    /// Do not serve them; each is a warning
    Ignore,
}

/// Whose sockets are balanced when they are connected, so that their packets need no translation.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SocketBalancing {
    /// Those of processes in this node's own network namespace, which nothing else balances
    #[default]
    Host,
    /// Those of pods too: no packet of theirs is translated then, but proxies in pods that divert
    /// connections see backends' addresses
    All,
    /// None: the node's own processes reach no Service
    Off,
}

impl fmt::Display for SocketBalancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::All => "all",
            Self::Off => "off",
        })
    }
}

/// Which network devices get XDP in front of TC. TC is on every device whatever this says.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum XdpMode {
    /// Natively where the driver can and frames sent back out of the device arrive; never on veth
    #[default]
    Auto,
    /// Natively on every network device; one whose driver cannot is left to TC
    Native,
    /// Generically on every network device: slower than TC alone, for trying things out
    Generic,
    /// On none
    Off,
}
