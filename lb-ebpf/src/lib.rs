//! What happens to a packet: one decision procedure, in ordinary safe Rust, for the kernel, for
//! tests and for `weir explain` alike.
//!
//! A packet passes the modules in this order: `wire` reads it into a tuple, [`balance`] follows or
//! begins its connection, `choose` picks a backend, `connect` writes the entries, `rewrite` changes
//! the packet. What a walk may touch stands behind three seams: [`packet::Packet`] for bytes,
//! [`tables`] for rows, entries and the node around it. Nothing here knows which hook it runs in;
//! `kernel/`, compiled for BPF alone, does.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod balance;
pub mod checksum;
mod choose;
mod connect;
pub mod packet;
mod rewrite;
pub mod tables;
pub mod wire;

#[cfg(test)]
mod tests;
