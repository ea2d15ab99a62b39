//! Where the cluster's objects come from. A source yields Services, EndpointSlices, Nodes and
//! ServiceCIDRs as [`Change`](crate::model::Change)s of the model, and what it could not read or honour as
//! [`SourceWarning`]s. Kubernetes' own types end here: nothing outside this folder names them.

mod convert;
mod either;
mod error;
mod event;
mod kubernetes;
mod manifests;
mod warning;

pub use either::Source;
pub use error::SourceError;
pub use event::SourceEvent;
pub use kubernetes::{Access, AccessError, EventCounts, Kubernetes, Reason, Reporter, Timeouts};
pub use manifests::Manifests;
pub use warning::{FilePosition, SourceWarning};
