//! What the plan must know of the configuration.

use lb_common::snat::{Rows, TIERS};

use crate::config::{Config, ExternalIps};
use crate::host::snat_ports::LocalPorts;
use crate::model::{Cluster, Sockets};
use crate::plan;

/// The plan's settings; source ports are those of this moment.
pub fn settings(config: &Config, sockets: Sockets) -> plan::Settings {
    plan::Settings {
        nodeport_addresses: config.nodeport_addresses.clone(),
        skip: config.skip.clone(),
        capacities: config.capacities,
        honours_external_ips: config.external_ips == ExternalIps::Honour,
        snat_tiers: LocalPorts::of_this_node().tiers([].into_iter()),
        sockets,
    }
}

/// The source ports for SNAT, as sockets and the node ports of `cluster` leave them at this moment.
pub fn snat_tiers(cluster: &Cluster) -> [Rows; TIERS] {
    let ports = cluster.services.values().flat_map(|service| &service.ports);
    LocalPorts::of_this_node().tiers(ports.filter_map(|port| port.node_port))
}
