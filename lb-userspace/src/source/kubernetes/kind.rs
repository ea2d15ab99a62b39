//! The kinds of objects that are watched: which of them, and what they mean to the model.

use std::fmt;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Resource;
use serde::de::DeserializeOwned;

use crate::model::{Change, Name, Warning};
use crate::source::convert;

/// What is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Service,
    Slice,
    Node,
    ServiceCidr,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Service, Self::Slice, Self::Node, Self::ServiceCidr];

    /// One object of it, as people call it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// Whether all works without: the server may have none (ServiceCIDRs came with Kubernetes 1.33),
    /// or not let Weir see them.
    pub(super) fn is_optional(self) -> bool {
        self == Self::ServiceCidr
    }
}

impl fmt::Display for Kind {
    /// All that is watched of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Services",
            Self::Slice => "EndpointSlices",
            Self::Node => "this Node",
            Self::ServiceCidr => "ServiceCIDRs",
        })
    }
}

/// A type of Kubernetes that is watched.
pub(super) trait Watched:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + 'static
{
    const KIND: Kind;

    /// Which of them.
    fn selection(node: &str) -> Selection;

    /// What the object means, and what of it is not honoured.
    fn convert(&self) -> (Change, Vec<Warning>);

    /// That the object of this name is gone.
    fn gone(name: Name) -> Change;

    /// Its name; the namespace of a Node or ServiceCIDR is empty.
    fn name(&self) -> Name {
        let meta = self.meta();
        Name::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// Selectors as the API takes them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Selection {
    pub(super) labels: Option<String>,
    pub(super) fields: Option<String>,
}

impl Selection {
    fn without_label(label: &str) -> Self {
        Self { labels: Some(format!("!{label}")), fields: None }
    }
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn selection(_: &str) -> Selection {
        Selection::without_label("service.kubernetes.io/service-proxy-name")
    }

    fn convert(&self) -> (Change, Vec<Warning>) {
        let (service, warnings) = convert::service(self);
        (Change::Service(service), warnings)
    }

    fn gone(name: Name) -> Change {
        Change::ServiceGone(name)
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::Slice;

    fn selection(_: &str) -> Selection {
        Selection::without_label("service.kubernetes.io/headless")
    }

    fn convert(&self) -> (Change, Vec<Warning>) {
        let (slice, warnings) = convert::slice(self);
        // One that is for no proxy any more is gone as far as proxies are concerned.
        let change = slice.map_or_else(|| Self::gone(self.name()), Change::Slice);
        (change, warnings)
    }

    fn gone(name: Name) -> Change {
        Change::SliceGone(name)
    }
}

impl Watched for Node {
    const KIND: Kind = Kind::Node;

    fn selection(node: &str) -> Selection {
        Selection { labels: None, fields: Some(format!("metadata.name={node}")) }
    }

    fn convert(&self) -> (Change, Vec<Warning>) {
        let (node, warnings) = convert::node(self);
        (Change::Node(node), warnings)
    }

    fn gone(name: Name) -> Change {
        Change::NodeGone(name.name.to_string())
    }
}

impl Watched for ServiceCIDR {
    const KIND: Kind = Kind::ServiceCidr;

    fn selection(_: &str) -> Selection {
        Selection::default()
    }

    fn convert(&self) -> (Change, Vec<Warning>) {
        let (ranges, warnings) = convert::service_cidr(self);
        (Change::ServiceCidr(self.name().name.to_string(), ranges), warnings)
    }

    fn gone(name: Name) -> Change {
        Change::ServiceCidrGone(name.name.to_string())
    }
}
