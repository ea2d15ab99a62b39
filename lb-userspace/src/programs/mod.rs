//! What runs in the kernel: the object ([`object`]), where its programs are attached ([`attach`]),
//! on which devices ([`devices`]) and control
//! group ([`sockets`]), and where all that lives while no agent does ([`pins`]).

pub mod attach;
pub mod devices;
pub mod features;
pub mod namespace;
mod netlink;
pub mod object;
pub mod pins;
pub mod ports;
pub mod requirements;
pub mod sockets;
pub mod udp_sockets;

use std::error::Error;
use std::io;

use aya::util::nr_cpus;

/// How many processors there may be: the kernel keeps a copy of every counter for each of them.
///
/// # Errors
/// The kernel's list of them cannot be read.
pub fn processors() -> io::Result<u32> {
    let count = nr_cpus().map_err(|(_, error)| error)?;
    u32::try_from(count).map_err(io::Error::other)
}

/// An error and what it came from: aya names the kernel's answer only there.
fn causes(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}
