//! The operator's settings that a plan depends on.

use ipnet::IpNet;
use lb_common::maps::Capacities;
use lb_common::snat::{Rows, TIERS};

use crate::model::Sockets;

/// The operator's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The addresses of this node that serve node ports.
    pub nodeport_addresses: NodePortAddresses,
    /// The sizes of the maps.
    pub capacities: Capacities,
    /// Whether external IPs are served.
    pub honours_external_ips: bool,
    /// The source ports for SNAT, the tiers in the order they are tried.
    pub snat_tiers: [Rows; TIERS],
    /// Which sockets are load balanced.
    pub sockets: Sockets,
}

/// The addresses of this node that serve node ports; never a loopback address.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum NodePortAddresses {
    /// In each family the first address of the Node object; if it has none, the first address of the
    /// first network device that has one.
    #[default]
    Primary,
    /// The devices' addresses within these ranges. A family without a range is not restricted, as
    /// with kube-proxy's `--nodeport-addresses`.
    Within(Vec<IpNet>),
}
