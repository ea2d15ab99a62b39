//! Frames, built and read back by etherparse: a parser that shares no code with the datapath.

mod build;
mod checksums;
mod edit;
mod read;

pub use self::build::{HOP_LIMIT, Icmp, Kind, frame, icmp};
pub use self::checksums::check;
pub use self::edit::{
    fragments, set_hop_limit, set_ipv4_checksum, set_link_addresses, swap_link_addresses,
    with_extension_headers, with_ipv4_options, with_tcp_options,
};
pub use self::read::{IcmpMessage, ends, hop_limit, icmp_message};
