//! Headers as they stand on the wire: parsing and writing.

mod headers;
pub(crate) mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod layer4;
pub mod sctp;
mod transport;

use lb_common::address::Family;

pub(crate) use headers::MAX_TRANSPORT_OFFSET;
pub use headers::{Extent, Headers, Part};
pub use ip::IpVersion;
pub(crate) use ip::OWN_HOP_LIMIT;
pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub(crate) use layer4::QUOTED_TRANSPORT;
pub use transport::{Proof, TcpFlags};
pub(crate) use transport::{
    UDP_HEADER, checksum_offset, replace_ports, set_ports, tcp_header_length,
};

use crate::packet::Packet;

/// EtherType of IPv4, RFC 894.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6, RFC 2464.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// The family of a frame's packet, by its EtherType; `None` if it is neither.
#[inline(always)]
pub fn family<P: Packet + ?Sized>(packet: &mut P) -> Option<Family> {
    match packet.ether_type()? {
        ETHERTYPE_IPV4 => Some(Family::V4),
        ETHERTYPE_IPV6 => Some(Family::V6),
        _ => None,
    }
}

/// Whether a frame bears a VLAN tag (IEEE 802.1Q, and 802.1ad's outer one).
#[inline(always)]
pub fn has_tag<P: Packet + ?Sized>(packet: &mut P) -> bool {
    matches!(packet.ether_type(), Some([0x81, 0x00] | [0x88, 0xa8]))
}
