//! The settings of scenarios and properties.

use lb_common::maps::Capacities;
use lb_common::snat::{Rows, TIERS};
use lb_userspace::model::Sockets;
use lb_userspace::plan::{NodePortAddresses, Settings, Skip};

/// Settings with large maps.
pub fn settings() -> Settings {
    Settings {
        nodeport_addresses: NodePortAddresses::default(),
        skip: Skip::default(),
        capacities: Capacities {
            services: 1000,
            frontends: 1000,
            slots: 100_000,
            backends: 1000,
            conntrack: 1000,
            half_open: 1000,
            affinity: 1000,
            processors: 1,
        },
        honours_external_ips: true,
        snat_tiers: [Rows::of_spans(60, 63); TIERS],
        sockets: Sockets::default(),
    }
}
