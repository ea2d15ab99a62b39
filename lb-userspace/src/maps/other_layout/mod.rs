//! Reads maps of another layout, of an older or a newer release.

mod conversion;
mod copy;
mod flows;
mod rows;

use std::io;

pub use self::conversion::{Conversion, bits};
pub use self::copy::{
    Copied, InUse, check_udp_sockets, copy_flows, copy_fragments, copy_port_hints, copy_udp_sockets,
};
pub use self::flows::for_each_flow;
pub(super) use self::rows::rows;

/// The error for a map that the other layout has not, or with other fields than this build can do with.
fn unknown(what: &str) -> io::Error {
    io::Error::other(format!(
        "the release before does not say {what}: its connections cannot be taken over"
    ))
}
