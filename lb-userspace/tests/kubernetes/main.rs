//! The API as a source, against an API server that misbehaves as told: whatever happens to it, what
//! the source has told comes to be the truth again, and until then nothing is taken away.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod api;
mod faults;
mod outages;
mod reports;
mod store;
mod stream;
mod streams;
mod told;
mod usual;
