//! Headers as they stand on the wire. Both IP versions are written once, generic over
//! [`IpVersion`], and compiled at two key widths.

mod icmp;
mod ipv4;
mod ipv6;
mod transport;

use lb_common::address::{Address, Family, Port, Protocol, Tuple};
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
    pub transport: usize,
    /// TCP's flags; none for UDP.
    pub flags: TcpFlags,
    /// Hops the packet may still make, this one included.
    pub hops: u8,
}

/// One IP version.
pub trait IpVersion {
    /// Its addresses.
    type Address: Address;

    /// Reads the headers of a packet that may be balanced.
    ///
    /// # Errors
    /// The outcome of a packet that may not, or not yet.
    fn read<P: Packet + ?Sized>(packet: &mut P) -> Result<Headers<Self::Address>, Outcome>;

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

/// What an IP header says of the rest.
struct Carried<A> {
    source: A,
    destination: A,
    protocol: Protocol,
    transport: usize,
    hops: u8,
}

impl<A: Address> Carried<A> {
    /// Reads on into the transport header.
    #[inline(always)]
    fn read<P: Packet + ?Sized>(self, packet: &mut P) -> Result<Headers<A>, Outcome> {
        let (source_port, destination_port, flags) = match self.protocol {
            Protocol::TCP => transport::tcp(packet, self.transport),
            Protocol::UDP => transport::udp(packet, self.transport),
            Protocol::ICMP | Protocol::ICMPV6 => {
                return Err(icmp::outcome(packet, self.protocol, self.transport));
            }
            _ => return Err(Outcome::NotTransport),
        }
        .ok_or(Outcome::Malformed)?;
        let (source_port, destination_port): (Port, Port) = (source_port, destination_port);
        Ok(Headers {
            tuple: Tuple::new(
                self.source,
                source_port,
                self.destination,
                destination_port,
                self.protocol,
            ),
            transport: self.transport,
            flags,
            hops: self.hops,
        })
    }
}
