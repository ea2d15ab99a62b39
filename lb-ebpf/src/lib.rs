//! What happens to a packet: one decision procedure, in ordinary safe Rust, for the kernel, for
//! tests and for `weir explain` alike.
//!
//! From the bottom up: [`hook`] and [`world`] are what a walk starts from and may ask, [`packet`] is
//! its bytes, `packet_state` its data. [`wire`] parses and writes headers, `rewrite` and [`checksum`]
//! change them. `backend_select` picks a backend, `conntrack` looks flows up and creates them,
//! `forward` sends a packet on, `icmp` replies to senders and translates errors, `fragments` and
//! `slow_path` take the packets that need a closer look, [`socket_lb`] serves the node's processes.
//! [`walk`] is on top.
//!
//! What a walk may touch is behind two seams: [`packet::Packet`] for bytes, [`world::World`] for maps
//! and the kernel around it. Nothing here knows which hook it runs in; `kernel/`, compiled for BPF
//! alone, does. Off BPF the library has two more modules: [`in_memory`], a world in ordinary
//! collections, and `cases`, the packet cases.

#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]

mod backend_select;
#[cfg(feature = "cases")]
pub mod cases;
pub mod checksum;
mod conntrack;
mod forward;
mod fragments;
mod from_host;
pub mod hook;
mod icmp;
#[cfg(not(target_arch = "bpf"))]
pub mod in_memory;
mod ip_policy;
mod next_hop;
pub mod packet;
mod packet_state;
mod rewrite;
pub mod route;
mod slow_path;
pub mod socket_lb;
pub mod trace;
pub mod walk;
pub mod wire;
pub mod world;

/// What the packet benchmark's programs and its harness share.
#[cfg(feature = "bench")]
pub mod bench {
    pub mod shared;
}
