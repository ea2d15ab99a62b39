//! Services, endpoints and the node as plain values: what Kubernetes' objects mean to a proxy, and
//! nothing of how they are written. `source` fills them, `plan` reads them; nothing here does I/O.

mod cluster;
mod endpoint;
mod health_check;
mod local_node;
mod missing_node;
mod name;
mod node;
mod service;
mod warning;

pub use cluster::{Change, Cluster};
pub use endpoint::{Endpoint, EndpointPort, EndpointSlice, Hints};
pub use health_check::{HealthCheck, HealthChecks};
pub use local_node::{DefaultRoutes, DeviceRole, LocalNode, NodeDevice, Sockets};
pub use missing_node::missing_node;
pub use name::{Name, SharedText};
pub use node::Node;
pub use service::{Affinity, Service, ServicePort, ServiceType, TrafficPolicy};
pub use warning::Warning;
