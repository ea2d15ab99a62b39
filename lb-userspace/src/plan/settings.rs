//! The operator's settings that a plan depends on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::address::Family;
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

/// The addresses of this node that serve node ports: all that any of these names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePortAddresses {
    /// In each family the first address of the Node object; if it has none, the first address of the
    /// first network device that has one.
    pub primary: bool,
    /// 127.0.0.1 and `::1`, for this node's own processes alone.
    pub localhost: bool,
    /// The devices' addresses within these ranges, and those of `localhost` that are. Where there are ranges and
    /// nothing else, a family without one is not restricted, as with kube-proxy's `--nodeport-addresses`.
    pub within: Vec<IpNet>,
}

impl Default for NodePortAddresses {
    fn default() -> Self {
        Self { primary: true, localhost: false, within: Vec::new() }
    }
}

impl NodePortAddresses {
    /// The ranges of this family; `None` where it is not restricted.
    pub(super) fn ranges(&self, family: Family) -> Option<Vec<IpNet>> {
        let of_family = |range: &&IpNet| Family::of(&range.addr()) == family;
        let ranges: Vec<IpNet> = self.within.iter().filter(of_family).copied().collect();
        let is_restricted = self.primary || self.localhost || !ranges.is_empty();
        is_restricted.then_some(ranges)
    }

    /// Whether node ports are served at the loopback address of this family.
    pub(super) fn has_localhost(&self, family: Family) -> bool {
        self.localhost || includes(self.ranges(family).as_deref(), localhost(family))
    }
}

/// Whether `address` is within `ranges`; everything is within none.
pub(super) fn includes(ranges: Option<&[IpNet]>, address: IpAddr) -> bool {
    ranges.is_none_or(|ranges| ranges.iter().any(|range| range.contains(&address)))
}

/// 127.0.0.1 or `::1`.
pub(super) const fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
