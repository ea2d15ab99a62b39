//! Writes cases so that each step is a sentence: where a packet arrives and who sent it, what it is,
//! and what becomes of it.
//!
//! ```text
//! self.case("a connection that the backend reset can be tried again").steps([
//!     self.from_pod(pod).connects_to(frontend).is_forwarded_to(backend),
//!     self.to_device(backend).resets(pod).is_replied_as(frontend),
//!     self.from_pod(pod).connects_to(frontend).is_forwarded_to(backend),
//! ])
//! ```
#![expect(
    clippy::wrong_self_convention,
    reason = "from_pod and is_forwarded_to are words of a sentence, no constructor and no question"
)]

mod arrival;
mod case_builder;
mod icmp;
mod packet;

pub(super) use self::arrival::Arrival;
pub use self::case_builder::PAYLOAD;
pub(super) use self::case_builder::{
    Addresses, CLIENT_PORT, CaseBuilder, Steps, half_open_entry_is_evicted,
    kernel_releases_fragments, limit_is, pod_is_retired,
};
pub(super) use self::packet::Packet;
