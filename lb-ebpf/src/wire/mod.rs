//! Headers as they stand on the wire. Both IP versions are written once, generic over
//! [`IpVersion`], and compiled at two key widths.

mod icmp;
mod ipv4;
mod ipv6;
mod transport;

use lb_common::address::{Address, Family, Protocol, Tuple};
use lb_common::outcome::Outcome;

pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use transport::TcpFlags;
pub(crate) use transport::{checksum_offset, set_ports};

use crate::checksum::Difference;
use crate::packet::{Packet, Unwritable};

/// EtherType of IPv4, RFC 894.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6, RFC 2464.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// What a walk needs of a packet's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers<A> {
    /// Source, destination, protocol.
    pub tuple: Tuple<A>,
    /// Where the transport header begins, in bytes from the start of the frame.
    transport: u32,
    /// TCP's flags; none for UDP.
    pub flags: TcpFlags,
    /// Hops the packet may still make, this one included.
    pub hops: u8,
}

impl<A: Address> Headers<A> {
    /// Headers of no packet: room to read some into.
    #[must_use]
    pub fn empty() -> Self {
        Self { tuple: Tuple::empty(), transport: 0, flags: TcpFlags::default(), hops: 0 }
    }

    /// Where the transport header begins, in bytes from the start of the frame: 74 at the most. The
    /// bound is stated for the verifier, which forgets it where headers are kept in a map.
    #[inline(always)]
    #[must_use]
    pub const fn transport(&self) -> usize {
        (self.transport & 0x7f) as usize
    }
}

/// One IP version.
pub trait IpVersion {
    /// Its addresses.
    type Address: Address;

    /// Reads the headers of a packet that may be balanced into `headers`.
    ///
    /// # Errors
    /// The outcome of a packet that may not, or not yet.
    fn read<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<Self::Address>,
    ) -> Result<(), Outcome>;

    /// Sets both addresses, takes `hops` from the hop limit, and keeps the IP header's own checksum
    /// true. Returns what has changed under the pseudo-header.
    ///
    /// # Errors
    /// The header is not there.
    fn write<P: Packet + ?Sized>(
        packet: &mut P,
        source: &Self::Address,
        destination: &Self::Address,
        hops: u8,
    ) -> Result<Difference, Unwritable>;
}

/// The family of a frame's packet, by its EtherType; `None` if it is neither.
#[inline(always)]
pub fn family<P: Packet + ?Sized>(packet: &mut P) -> Option<Family> {
    let [.., high, low] = *packet.header::<{ crate::packet::LINK_HEADER }>(0)?;
    match [high, low] {
        ETHERTYPE_IPV4 => Some(Family::V4),
        ETHERTYPE_IPV6 => Some(Family::V6),
        _ => None,
    }
}

/// Reads on into the transport header, once the IP header has filled the rest in.
#[inline(always)]
fn read_transport<A: Address, P: Packet + ?Sized>(
    packet: &mut P,
    headers: &mut Headers<A>,
    protocol: Protocol,
    offset: usize,
) -> Result<(), Outcome>
where
    Tuple<A>: bytemuck::Pod,
{
    let (ports, flags) = match protocol {
        Protocol::TCP => transport::tcp(packet, offset),
        Protocol::UDP => transport::udp(packet, offset),
        Protocol::ICMP | Protocol::ICMPV6 => {
            return Err(icmp::outcome(packet, protocol, offset));
        }
        _ => return Err(Outcome::NotTransport),
    }
    .ok_or(Outcome::Malformed)?;
    headers.tuple.source_port = ports.source();
    headers.tuple.destination_port = ports.destination();
    headers.tuple.set_protocol(protocol);
    headers.transport = offset as u32;
    headers.flags = flags;
    Ok(())
}
