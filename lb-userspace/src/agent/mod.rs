//! The agent: a state machine that decides, and an event loop that does what it decides.

mod devices;
mod error;
mod event_loop;
mod gc;
mod http;
mod log;
mod new_maps;
pub mod run;
pub mod runtime_dir;
mod socket_lb;
mod state_machine;
pub mod status;

pub use error::RunError;
pub use state_machine::{Agent, Effect, Effort, Event, RETRY, RETRY_AT_MOST};
