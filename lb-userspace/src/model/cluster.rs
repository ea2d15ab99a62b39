//! What a source knows of the cluster, and how it changes.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::endpoint::EndpointSlice;
use super::name::Name;
use super::node::Node;
use super::service::Service;

/// Something that happened in the cluster. A source yields these in any order; the same change
/// twice, or the removal of what is not there, means nothing.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// This Service exists now, and is so.
    Service(Service),
    /// This Service is gone.
    ServiceGone(Name),
    /// This EndpointSlice exists now, and is so.
    Slice(EndpointSlice),
    /// This EndpointSlice is gone.
    SliceGone(Name),
    /// This Node exists now, and is so. Nodes other than our own are ignored.
    Node(Node),
    /// This Node (by its name) is gone.
    NodeGone(String),
    /// The ServiceCIDR of this name exists now, and has these ranges.
    ServiceCidr(String, Vec<IpNet>),
    /// The ServiceCIDR of this name is gone.
    ServiceCidrGone(String),
    /// Everything that there was at the start has been listed. Nothing is programmed before.
    Synced,
}

/// Everything known of the cluster.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Cluster {
    /// Services by name; boxed, as nearly half of a tree that grows entry by entry is unused.
    pub services: BTreeMap<Name, Box<Service>>,
    /// EndpointSlices by their own name (not their Service's).
    pub slices: BTreeMap<Name, Box<EndpointSlice>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// The ranges that cluster IPs are given out of, by the name of their ServiceCIDR; none where the
    /// API server has no such objects (before Kubernetes 1.33).
    pub service_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// Whether everything has been listed once.
    pub synced: bool,
}

impl Cluster {
    /// Whether this change would change nothing.
    #[must_use]
    pub fn knows(&self, change: &Change) -> bool {
        match change {
            Change::Service(service) => self.service(&service.name) == Some(service),
            Change::ServiceGone(name) => !self.services.contains_key(name),
            Change::Slice(slice) => self.slice(&slice.name) == Some(slice),
            Change::SliceGone(name) => !self.slices.contains_key(name),
            Change::Node(node) => self.nodes.get(&node.name) == Some(node),
            Change::NodeGone(name) => !self.nodes.contains_key(name),
            Change::ServiceCidr(name, ranges) => self.service_cidrs.get(name) == Some(ranges),
            Change::ServiceCidrGone(name) => !self.service_cidrs.contains_key(name),
            Change::Synced => self.synced,
        }
    }

    /// The Service of this name.
    #[must_use]
    pub fn service(&self, name: &Name) -> Option<&Service> {
        self.services.get(name).map(Box::as_ref)
    }

    /// The EndpointSlice of this name.
    #[must_use]
    pub fn slice(&self, name: &Name) -> Option<&EndpointSlice> {
        self.slices.get(name).map(Box::as_ref)
    }

    /// Takes a change in; returns whether it changed anything.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Service(service) => {
                replace(&mut self.services, service.name.clone(), Box::new(service))
            }
            Change::ServiceGone(name) => self.services.remove(&name).is_some(),
            Change::Slice(slice) => replace(&mut self.slices, slice.name.clone(), Box::new(slice)),
            Change::SliceGone(name) => self.slices.remove(&name).is_some(),
            Change::Node(node) => replace(&mut self.nodes, node.name.clone(), node),
            Change::NodeGone(name) => self.nodes.remove(&name).is_some(),
            Change::ServiceCidr(name, ranges) => replace(&mut self.service_cidrs, name, ranges),
            Change::ServiceCidrGone(name) => self.service_cidrs.remove(&name).is_some(),
            Change::Synced => !std::mem::replace(&mut self.synced, true),
        }
    }
}

fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}
