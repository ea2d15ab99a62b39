//! What changes while traffic goes on: pods, devices, the agent itself.

mod chaos;
pub mod detach;
mod devices;
mod draining;
mod endpoint_changes;
mod layouts;
mod removed_services;
mod resizing;
mod restarts;
mod rolling_update;
