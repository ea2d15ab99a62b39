//! The packet cases: what is promised of single packets, as data. They run twice, in memory by this
//! crate's tests and in the kernel by the agreement tests, and must end with the same outcome and the
//! same bytes.
//!
//! Every case happens in one [`topology`]. A case is a sentence and its steps, which the `builder`
//! writes as sentences, too: `from_pod(pod).connects_to(frontend).is_forwarded_to(backend)`. Add a
//! case to the file of its subject.

mod builder;
mod case;
mod direct;
mod flows;
mod fragments;
pub mod frame;
mod headers;
mod icmp;
mod malformed;
pub mod mutation;
mod rejected;
pub mod topology;
mod translated;

use lb_common::address::{Family, Protocol};

use self::builder::CaseBuilder;
pub use self::builder::PAYLOAD;
pub use self::case::{Case, Output, Program, Setting, Step};
use self::topology::Topology;

/// Every case, in both families and in the protocols where it makes sense. `device` is the interface
/// index of the node's network device.
#[must_use]
pub fn all(device: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let builder = CaseBuilder { topology: Topology { family }, protocol, device };
            cases.extend(builder.translated());
            cases.extend(builder.flows());
            cases.extend(builder.direct());
            cases.extend(builder.rejected());
            cases.extend(builder.icmp());
            cases.extend(builder.malformed());
            cases.extend(builder.headers());
            cases.extend(builder.fragments());
        }
    }
    cases
}
