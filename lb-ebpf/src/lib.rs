//! What happens to a packet: one decision procedure, in ordinary safe Rust, for the kernel, for
//! tests and for `weir explain` alike.
//!
//! A packet passes the modules in this order: `wire` reads it into a tuple, [`balance`] walks it,
//! `flow` follows or begins its connection, `choose` picks a backend, `connect` writes the entries,
//! `rewrite` changes the packet. Fragments, echo requests and ICMP errors go by way of `unusual`;
//! what a sender is told in the place of a translation is written by [`answer`]. What a walk may touch stands behind three seams: [`packet::Packet`] for bytes,
//! [`tables`] for rows, entries and the node around it. Nothing here knows which hook it runs in;
//! `kernel/`, compiled for BPF alone, does. Off BPF the library has two more modules: [`memory`], a
//! world in ordinary collections, and `cases`, the packets that say what is promised.

#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]

pub mod answer;
pub mod balance;
#[cfg(feature = "cases")]
pub mod cases;
pub mod checksum;
mod choose;
mod connect;
mod error;
mod flow;
#[cfg(not(target_arch = "bpf"))]
pub mod memory;
pub mod packet;
#[cfg(feature = "bench")]
pub mod repeat;
mod rewrite;
pub mod socket;
pub mod tables;
mod unusual;
pub mod wire;
