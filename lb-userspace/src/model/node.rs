//! A Node, as far as a proxy reads it.

use std::net::IpAddr;

/// A Kubernetes Node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `status.addresses` of type InternalIP, then ExternalIP, in their order; the first of a family
    /// is the primary one.
    pub addresses: Vec<IpAddr>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// It is going away: `metadata.deletionTimestamp` is set, or the cluster autoscaler has put its
    /// taint `ToBeDeletedByClusterAutoscaler` on it. New traffic is to come in at other nodes (KEP-3836).
    pub leaving: bool,
}
