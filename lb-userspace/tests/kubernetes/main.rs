//! The Kubernetes source against a scripted API server: after any fault the source converges to the
//! server's objects, and until then it removes nothing.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod api;
mod faults;
mod outages;
mod recorder;
mod reports;
mod state;
mod steady_state;
mod store;
mod watch_cache;
mod watch_faults;
mod watch_stream;
