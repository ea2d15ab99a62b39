//! What the eBPF programs and the agent share: addresses, keys and values of every map, outcomes. There
//! is no input or output and no allocation in this crate.
//!
//! Addresses and ports are in network byte order, as on the wire, so that a key is built by copying
//! header bytes. Every other number is in the machine's byte order.
//!
//! The one module with `unsafe` is [`layout`]: it lists the types that may be read as plain bytes, and
//! checks their size and lack of padding at compile time.

#![no_std]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod address;
pub mod affinity;
pub mod backend;
pub mod conntrack;
pub mod device;
pub mod fields;
pub mod filter;
pub mod fragment;
pub mod hash;
pub mod layout;
pub mod maps;
pub mod outcome;
pub mod service;
pub mod settings;
pub mod snat;
pub mod socket;
pub mod source_range;
