//! What the kernel programs and the agent agree on: addresses, the rows of every map, the ways a
//! packet's walk may end. No input or output happens here, and nothing allocates.
//!
//! Numbers inside addresses and ports stand in network byte order, exactly as on the wire, so that
//! a key is built by copying header bytes. Every other number is in the machine's byte order.
//!
//! The one module with `unsafe` is [`layout`]: it states which types may be read as plain bytes,
//! and proves their size and lack of padding at compile time.

#![no_std]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod address;
pub mod affinity;
pub mod backend;
pub mod conntrack;
pub mod device;
pub mod filter;
pub mod fragment;
pub mod hash;
pub mod layout;
pub mod maps;
pub mod outcome;
pub mod service;
pub mod settings;
pub mod socket;
pub mod source_range;
