//! What Weir's privileged tests and its demonstration are built on: a lab of network namespaces, real
//! traffic within it, and the agent as a process.

pub mod agent;
pub mod attached;
pub mod container;
pub mod control_plane;
pub mod figures;
pub mod fixture;
pub mod kernel;
pub mod lab;
pub mod machine;
pub mod manifests;
pub mod processor;
pub mod refusals;
pub mod requires;
pub mod traffic;
pub mod wait;
