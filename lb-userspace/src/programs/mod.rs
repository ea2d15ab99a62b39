//! What runs in the kernel: the object ([`object`]), where its programs are attached ([`attach`]),
//! on which devices ([`devices`]), and where all that lives while no agent does ([`pins`]).

pub mod attach;
pub mod devices;
pub mod object;
pub mod pins;
pub mod ports;
pub mod requirements;

use std::error::Error;

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
