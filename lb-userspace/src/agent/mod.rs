//! The agent: a [`state_machine`] that decides, and an event loop that does what it decides.

mod event_loop;
mod health_checks;
mod http;
mod log;
pub mod run;
pub mod runtime_dir;
mod socket_lb;
mod stale_udp;
mod state_machine;
pub mod status;

pub use state_machine::{Agent, COALESCE, Effect, Event, RETRY, RETRY_AT_MOST};
