//! Kubernetes objects from the API server: Services, EndpointSlices, this node's Node and, where the
//! server has them, ServiceCIDRs are listed and watched, and come out as the same
//! [`Change`](crate::model::Change)s as those of manifests.
//!
//! `credentials -> client -> watch -> store -> aggregate`: how the server is reached, one request and its
//! response, the watch of one kind, which of its objects exist, and all watches together; `events` writes
//! warnings back. Whatever becomes of the server, what was listed stays until a complete list says
//! otherwise.

mod aggregate;
mod api_server;
mod backoff;
mod client;
mod credentials;
mod events;
mod kind;
mod store;
mod update;
mod version;
mod watch;

pub use api_server::Kubernetes;
pub use backoff::Timeouts;
pub use credentials::{Access, AccessError};
pub use events::{EventCounts, Reason, Reporter};
