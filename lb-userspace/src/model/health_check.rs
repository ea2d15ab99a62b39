//! The ports at which load balancers check whether this node has endpoints of a Service.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::name::Name;

/// A port of this node that reports on one Service: `spec.healthCheckNodePort` in one family.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HealthCheck {
    /// The Service.
    pub service: Name,
    /// Where it listens; the unspecified address stands for all of this node's of its family.
    pub address: SocketAddr,
}

/// All such places, each with the number of the Service's ready endpoints of its family on this node,
/// counted by their addresses.
pub type HealthChecks = BTreeMap<HealthCheck, usize>;
