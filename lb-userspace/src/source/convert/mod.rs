//! The one place where Kubernetes' types become the model. Defaults are filled in as the API server
//! does, addresses are normalised, and what it would refuse is left out with a warning: manifests
//! come without an API server in between, and its own stores hold objects older than its checks.

mod address;
mod node;
mod port;
mod service;
mod service_cidr;
mod slice;
mod warnings;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::Name;

pub(super) use address::list as addresses;
pub(super) use node::node;
pub(super) use port::number as port_number;
pub(super) use service::service;
pub(super) use service_cidr::service_cidr;
pub(super) use slice::slice;
pub(super) use warnings::Warnings;

/// The object's name, in the namespace `default` where it names none.
pub(super) fn name(metadata: &ObjectMeta) -> Name {
    let namespace = metadata.namespace.as_deref().filter(|text| !text.is_empty());
    Name::new(namespace.unwrap_or("default"), metadata.name.clone().unwrap_or_default())
}

fn has_label(metadata: &ObjectMeta, label: &str) -> bool {
    label_value(metadata, label).is_some()
}

fn label_value<'a>(metadata: &'a ObjectMeta, label: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(label).map(String::as_str)
}
