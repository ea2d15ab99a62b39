//! Changes built frames.

use etherparse::Ipv4Header;

use crate::cases::topology::{NODE_LINK, ROUTER_LINK};

/// Bytes of the Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of the Ethernet and the IPv4 header.
const IPV4_END: usize = ETHERNET + 20;
/// Bytes of the Ethernet and the IPv6 header.
const IPV6_END: usize = ETHERNET + 40;

/// Bytes of the IP payload in each fragment.
const FRAGMENT_PAYLOAD: usize = 48;

/// The fragments of a frame's packet (RFC 791, 3.2; RFC 8200, 4.5).
#[must_use]
pub fn fragments(frame: &[u8]) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(if is_ipv4(frame) { IPV4_END } else { IPV6_END });
    let count = payload.chunks(FRAGMENT_PAYLOAD).count();
    let fragment = |(number, bytes): (usize, &[u8])| {
        let (offset, more) = (number * FRAGMENT_PAYLOAD, number + 1 < count);
        let mut fragment = headers.to_vec();
        if is_ipv4(frame) {
            fragment[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            fragment[18..20].copy_from_slice(&[0x12, 0x34]);
            let field = (offset / 8) as u16 | u16::from(more) << 13;
            fragment[20..22].copy_from_slice(&field.to_be_bytes());
            set_ipv4_checksum(&mut fragment);
        } else {
            fragment[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut fragment[20], 44);
            let field = offset as u16 | u16::from(more);
            fragment.extend([next, 0]);
            fragment.extend(field.to_be_bytes());
            fragment.extend([0xde, 0xad, 0xbe, 0xef]);
        }
        fragment.extend(bytes);
        fragment
    };
    payload.chunks(FRAGMENT_PAYLOAD).enumerate().map(fragment).collect()
}

/// The IPv4 frame with eight bytes of options: no-operations and an end.
#[must_use]
pub fn with_ipv4_options(frame: &[u8]) -> Vec<u8> {
    let mut longer = frame[..IPV4_END].to_vec();
    longer.extend([1, 1, 1, 1, 1, 1, 1, 0]);
    longer.extend(&frame[IPV4_END..]);
    longer[14] = 0x47;
    let length = u16::from_be_bytes([frame[16], frame[17]]) + 8;
    longer[16..18].copy_from_slice(&length.to_be_bytes());
    set_ipv4_checksum(&mut longer);
    longer
}

/// The TCP frame with twelve bytes of options: no-operations. Its checksum does not cover them.
#[must_use]
pub fn with_tcp_options(frame: &[u8]) -> Vec<u8> {
    let (tcp, length) = if is_ipv4(frame) { (IPV4_END, 16..18) } else { (IPV6_END, 18..20) };
    let mut longer = frame.to_vec();
    longer.splice(tcp + 20..tcp + 20, [1; 12]);
    longer[tcp + 12] = 0x80 | longer[tcp + 12] & 0xf;
    let bytes = u16::from_be_bytes([frame[length.start], frame[length.start + 1]]) + 12;
    longer[length].copy_from_slice(&bytes.to_be_bytes());
    if is_ipv4(frame) {
        set_ipv4_checksum(&mut longer);
    }
    longer
}

/// The IPv6 frame with extension headers of these types, of eight bytes each.
#[must_use]
pub fn with_extension_headers(frame: &[u8], types: &[u8]) -> Vec<u8> {
    let mut longer = frame.to_vec();
    for kind in types.iter().rev() {
        let next = std::mem::replace(&mut longer[20], *kind);
        // Padding (RFC 8200, 4.2); in a routing header these bytes mean nothing.
        longer.splice(IPV6_END..IPV6_END, [next, 0, 1, 4, 0, 0, 0, 0]);
        let length = u16::from_be_bytes([longer[18], longer[19]]) + 8;
        longer[18..20].copy_from_slice(&length.to_be_bytes());
    }
    longer
}

/// Sets the hop limit, and in IPv4 the header's checksum.
pub fn set_hop_limit(frame: &mut [u8], hops: u8) {
    if is_ipv4(frame) {
        frame[22] = hops;
        set_ipv4_checksum(frame);
    } else {
        frame[21] = hops;
    }
}

/// Sets the checksum of a frame's IPv4 header.
///
/// # Panics
/// There is no such header.
pub fn set_ipv4_checksum(frame: &mut [u8]) {
    let (header, _) =
        Ipv4Header::from_slice(&frame[ETHERNET..]).expect("the frame was built as an IPv4 packet");
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Sets the link addresses of a frame that the node sends to the router.
pub fn set_link_addresses(frame: &mut [u8]) {
    frame[..6].copy_from_slice(&ROUTER_LINK);
    frame[6..12].copy_from_slice(&NODE_LINK);
}

/// Swaps a frame's link addresses, as in a frame that goes back to its sender.
pub fn swap_link_addresses(frame: &mut [u8]) {
    let (to, from) = frame[..12].split_at_mut(6);
    to.swap_with_slice(from);
}

fn is_ipv4(frame: &[u8]) -> bool {
    frame[ETHERNET] >> 4 == 4
}
