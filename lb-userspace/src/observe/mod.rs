//! What others see of the agent: health and metrics over HTTP, with kube-proxy's addresses, names
//! and meanings. The agent reports what happens to an [`Observer`]; the servers are tasks of their own
//! that read it, and the maps.

mod changes;
mod endpoints;
mod exposition;
mod health;
mod health_checks;
mod http_server;
mod metrics;
mod observer;
mod snat_ports;
mod tables;

pub use endpoints::{HealthEndpoints, MetricsEndpoints};
pub use exposition::exposition;
pub use health::{FamilyReport, Health, HealthResponse, Moment, Report};
pub use health_checks::HealthCheckServers;
pub use http_server::{BindError, Handler, Response, Server};
pub use metrics::Metrics;
pub use observer::Observer;
pub use tables::{BackendTraffic, NoLocal, Reader, Reading, Tables};
