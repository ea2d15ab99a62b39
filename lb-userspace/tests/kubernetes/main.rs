//! The API as a source, against an API server that misbehaves as told: whatever happens to it, what
//! the source has told comes to be the truth again, and until then nothing is taken away.

mod api;
mod faults;
mod outages;
mod reports;
mod store;
mod stream;
mod streams;
mod told;
mod usual;
