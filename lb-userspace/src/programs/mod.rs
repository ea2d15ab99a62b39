//! What runs in the kernel: the object ([`object`]), where its programs are attached ([`attach`]),
//! on which devices ([`devices`]), and where all that lives while no agent does ([`pins`]).

pub mod attach;
pub mod devices;
pub mod object;
pub mod pins;
pub mod ports;
pub mod requirements;
