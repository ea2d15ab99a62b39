//! One Kubernetes object of a file, in Kubernetes' own types.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};

use crate::model::Name;
use crate::source::convert;

/// An object that Weir reads.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Object {
    Service(Box<Service>),
    Slice(Box<EndpointSlice>),
    Node(Box<Node>),
    ServiceCidr(Box<ServiceCIDR>),
    Pod(Box<Pod>),
}

/// What a document or an item of a List is, by its `apiVersion` and `kind`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Service,
    Slice,
    Node,
    ServiceCidr,
    Pod,
    /// Some other kind, as people call it.
    Other(String),
}

impl Kind {
    /// The kind that these two words name. A version that is absent is taken for the right one.
    pub(super) fn of(api_version: Option<&str>, kind: &str) -> Self {
        match (api_version, kind) {
            (None | Some("v1"), "Service") => Self::Service,
            (None | Some("v1"), "Node") => Self::Node,
            (None | Some("v1"), "Pod") => Self::Pod,
            (None | Some("discovery.k8s.io/v1"), "EndpointSlice") => Self::Slice,
            (None | Some("networking.k8s.io/v1"), "ServiceCIDR") => Self::ServiceCidr,
            // The version shows why an object of a familiar kind is not read.
            (Some(version), "Service" | "Node" | "Pod" | "EndpointSlice" | "ServiceCIDR") => {
                Self::Other(format!("{kind} ({version})"))
            }
            (_, kind) => Self::Other(kind.into()),
        }
    }

    /// The word for it.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Pod => "Pod",
            Self::Other(word) => word,
        }
    }

    /// Reads an object of this kind; one that Weir does not read is passed over.
    pub(super) fn read<'de, D: Deserializer<'de>>(
        &self,
        deserializer: D,
    ) -> Result<Option<Object>, D::Error> {
        Ok(Some(match self {
            Self::Service => Object::Service(Box::deserialize(deserializer)?),
            Self::Slice => Object::Slice(Box::deserialize(deserializer)?),
            Self::Node => Object::Node(Box::deserialize(deserializer)?),
            Self::ServiceCidr => Object::ServiceCidr(Box::deserialize(deserializer)?),
            Self::Pod => Object::Pod(Box::deserialize(deserializer)?),
            Self::Other(_) => {
                IgnoredAny::deserialize(deserializer)?;
                return Ok(None);
            }
        }))
    }
}

impl Object {
    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::Slice,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
            Self::Pod(_) => Kind::Pod,
        }
    }

    /// Whether it has a name; without one it cannot be distinguished from others.
    pub(super) fn is_named(&self) -> bool {
        self.metadata().name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// Its name. Nodes and ServiceCIDRs have no namespace, which is left empty.
    pub(super) fn name(&self) -> Name {
        let name = convert::name(self.metadata());
        match self {
            Self::Node(_) | Self::ServiceCidr(_) => Name::new("", name.name),
            Self::Service(_) | Self::Slice(_) | Self::Pod(_) => name,
        }
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(service) => &service.metadata,
            Self::Slice(slice) => &slice.metadata,
            Self::Node(node) => &node.metadata,
            Self::ServiceCidr(range) => &range.metadata,
            Self::Pod(pod) => &pod.metadata,
        }
    }
}
