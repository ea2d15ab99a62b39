//! What the node's tables should hold.
//!
//! [`plan`] is pure and cannot fail: what it cannot honour it leaves out and says so in a
//! [`Remark`]. It gives every Service port and backend the id it has in the tables already, so a
//! restart, a retry and a change are all the same: plan, [`crate::maps::diff`], write.

use ipnet::IpNet;
use lb_common::maps::Capacities;

use crate::maps::Contents;
use crate::model::Remark;

/// What the operator decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The addresses of this node that answer on node ports.
    pub nodeport_addresses: NodePortAddresses,
    /// How much the maps take.
    pub capacities: Capacities,
    /// The row of `SETTINGS`.
    pub source_ports: lb_common::settings::Settings,
}

/// The addresses of this node that answer on node ports; loopback addresses never do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum NodePortAddresses {
    /// In each family the first address of the Node object or, where it has none, the first one of
    /// the first network device that has one.
    #[default]
    Primary,
    /// Those of the devices' addresses that lie within one of these ranges. A family that no range
    /// belongs to is not restricted, as kube-proxy's `--nodeport-addresses`.
    Within(Vec<IpNet>),
}

/// What the tables should hold, and what is missing in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What the tables should hold.
    pub contents: Contents,
    /// What could not be honoured, sorted.
    pub remarks: Vec<Remark>,
    /// Something was left out or made smaller for want of room. Once this plan is written and what
    /// it replaces is gone there may be more: plan again.
    pub crowded: bool,
}
