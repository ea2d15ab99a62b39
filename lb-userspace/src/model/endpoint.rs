//! An EndpointSlice, as far as a proxy reads it.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::address::{Family, Protocol};

use super::name::{Name, SharedText};

/// A Kubernetes EndpointSlice of one address family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// Namespace and name of the slice itself.
    pub name: Name,
    /// The Service it belongs to (label `kubernetes.io/service-name`, same namespace).
    pub service: Name,
    /// Family of all its addresses.
    pub family: Family,
    /// Label `service.kubernetes.io/headless` is set: not for proxies.
    pub headless: bool,
    /// Ports every one of its endpoints has.
    pub ports: Vec<EndpointPort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// When what changed them last happened, since 1970, as the annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time` says.
    pub triggered: Option<Duration>,
}

/// A port of a slice's endpoints.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EndpointPort {
    /// The name that joins it to a Service's port, empty where it has none.
    pub name: SharedText,
    /// Protocol, which joins too.
    pub protocol: Protocol,
    /// The number packets are sent to, 1 to 65535.
    pub port: u16,
}

/// One endpoint; conditions are resolved to their defaults (ready, serving, not terminating).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Its first address; others are ignored, as kube-proxy does.
    pub address: IpAddr,
    /// Takes new flows.
    pub ready: bool,
    /// Could still take flows, ready or not.
    pub serving: bool,
    /// It is terminating.
    pub terminating: bool,
    /// Name of the node it is on, if known.
    pub node: Option<SharedText>,
    /// Its hints; `None` where it has none, as most.
    pub hints: Option<Box<Hints>>,
}

/// Where an endpoint is to be used.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hints {
    /// `hints.forZones`, in order.
    pub zones: Vec<SharedText>,
    /// `hints.forNodes`, in order.
    pub nodes: Vec<SharedText>,
}

impl Hints {
    /// These hints, unless there are none.
    #[must_use]
    pub fn of(zones: Vec<SharedText>, nodes: Vec<SharedText>) -> Option<Box<Self>> {
        let is_any = !zones.is_empty() || !nodes.is_empty();
        is_any.then(|| Box::new(Self { zones, nodes }))
    }
}

impl Endpoint {
    /// `hints.forZones`, in order.
    #[must_use]
    pub fn zone_hints(&self) -> &[SharedText] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
    }

    /// `hints.forNodes`, in order.
    #[must_use]
    pub fn node_hints(&self) -> &[SharedText] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }
}
