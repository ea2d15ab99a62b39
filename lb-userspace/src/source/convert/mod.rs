//! Kubernetes' types become the model in this folder alone. Defaults are filled in as the API server
//! does, addresses are normalised, and what it would refuse is left out with a warning: manifests
//! come without an API server in between, and its own stores hold objects older than its checks.

mod address;
mod metadata;
mod node;
mod port;
mod service;
mod service_cidr;
mod slice;
mod warnings;

pub(super) use address::list as addresses;
pub(super) use metadata::name;
pub(super) use node::node;
pub(super) use port::number as port_number;
pub(super) use service::service;
pub(super) use service_cidr::service_cidr;
pub(super) use slice::slice;
pub(super) use warnings::Warnings;
