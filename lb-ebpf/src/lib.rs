//! What happens to a packet.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
pub mod tables;
