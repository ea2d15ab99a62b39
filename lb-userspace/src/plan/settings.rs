//! The operator's settings that a plan depends on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::maps::Capacities;
use lb_common::snat::{Rows, TIERS};

use crate::model::{Change, Name, Sockets};

/// The operator's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The addresses of this node that serve node ports.
    pub nodeport_addresses: NodePortAddresses,
    /// What is left to others.
    pub skip: Skip,
    /// The sizes of the maps.
    pub capacities: Capacities,
    /// Whether external IPs are served.
    pub honours_external_ips: bool,
    /// The source ports for SNAT, the tiers in the order they are tried.
    pub snat_tiers: [Rows; TIERS],
    /// Which sockets are load balanced.
    pub sockets: Sockets,
}

/// Services and addresses that are left to others, such as a cache for names that listens at the cluster IP of the DNS.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Skip {
    /// Services, by name.
    pub services: BTreeSet<Name>,
    /// Addresses of frontends, whatever Service they belong to.
    pub addresses: Vec<IpNet>,
}

impl Skip {
    /// Whether what is sent to `address` is left alone.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|range| range.contains(&address))
    }

    /// Marks a Service that is left to others.
    pub fn mark(&self, change: &mut Change) {
        if let Change::Service(service) = change {
            service.other_proxy |= self.services.contains(&service.name);
        }
    }
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
