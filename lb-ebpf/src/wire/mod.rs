//! Headers as they stand on the wire. Both IP versions are written once, generic over
//! [`IpVersion`], and compiled at two key widths.

pub(crate) mod icmp;
mod ipv4;
mod ipv6;
pub mod sctp;
mod transport;

use lb_common::address::{Address, Family, Protocol, Tuple};
use lb_common::fragment::Fragmented;
use lb_common::outcome::Outcome;

pub use ipv4::Ipv4;
pub use ipv6::Ipv6;
pub use transport::TcpFlags;
pub(crate) use transport::{checksum_offset, replace_ports, set_ports};

use crate::checksum::Difference;
use crate::packet::{COPIED, Packet, Unwritable};

/// EtherType of IPv4, RFC 894.
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// EtherType of IPv6, RFC 2464.
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Transport headers are looked for below this byte of a frame; a power of two. Six extension headers
/// of usual size fit in.
pub(crate) const FARTHEST: usize = 256;

/// Bytes of a transport header that every error quotes (RFC 792): the ports are among them.
pub(crate) const QUOTED_TRANSPORT: usize = 8;

/// What part of a packet a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its first fragment, with the transport header.
    First,
    /// Another fragment.
    Later,
}

/// How much of its packet a fragment is, in bytes without headers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Extent {
    /// Bytes of it.
    pub length: u32,
    /// Bytes of the packet, if the fragment is its last; else zero.
    pub total: u32,
}

impl Extent {
    /// The extent of a fragment whose bytes begin at `start` of a frame and end at `end`, and stand
    /// `offset` bytes into the packet.
    #[inline(always)]
    const fn of(start: u32, end: u32, offset: u32, is_last: bool) -> Self {
        let length = end.saturating_sub(start);
        Self { length, total: if is_last { offset + length } else { 0 } }
    }
}

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

    /// Where the transport header begins, in bytes from the start of the frame: below
    /// [`FARTHEST`]. The bound is stated for the verifier, which forgets it where headers are kept
    /// in a map.
    #[inline(always)]
    #[must_use]
    pub const fn transport(&self) -> usize {
        (self.transport & (FARTHEST as u32 - 1)) as usize
    }

    /// Whether the packet is a fragment without transport header: only its addresses can change.
    #[inline(always)]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.transport == 0
    }

    /// Makes these the headers of a later fragment, with ports that the first one told.
    #[inline(always)]
    pub fn set_later_fragment(&mut self) {
        self.transport = 0;
        self.flags = TcpFlags::default();
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

    /// Bytes of the header, without options.
    const HEADER: usize;

    /// Reads the headers of a packet that [`IpVersion::read`] had no time for: a fragment, or one with
    /// extension headers. Which packet a fragment belongs to is written to `fragmented`, and how much
    /// of it it is to `extent`.
    ///
    /// # Errors
    /// The outcome of a packet that may not be balanced.
    fn read_closer<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<Self::Address>,
        fragmented: &mut Fragmented<Self::Address>,
        extent: &mut Extent,
    ) -> Result<Part, Outcome>;

    /// Reads the tuple of a packet that an ICMP error quotes at `at`, below [`FARTHEST`]; returns
    /// where its transport header begins, or `None` if it has none that we know.
    fn quoted<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        tuple: &mut Tuple<Self::Address>,
    ) -> Option<usize>;

    /// Where the packet ends, in bytes from the start of the frame, by its own header.
    fn end<P: Packet + ?Sized>(packet: &mut P) -> Option<u32>;

    /// Writes a header at the beginning of `bytes`, for `length` bytes of ICMP.
    fn head(bytes: &mut [u8; COPIED], from: &Self::Address, to: &Self::Address, length: u32);

    /// The sum of the pseudo-header that ICMP's checksum covers; ICMP for IPv4 has none.
    fn pseudo_header(from: &Self::Address, to: &Self::Address, length: u32) -> Difference;

    /// Sets both addresses of the header at `at`, takes `hops` from the hop limit, and keeps the IP
    /// header's own checksum true. Returns what has changed under the pseudo-header.
    ///
    /// # Errors
    /// The header is not there.
    fn write<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
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

/// Whether `part` of a packet can be translated: SCTP's checksum follows a change only if the length
/// of the whole packet is known, which its first fragment does not tell.
#[inline(always)]
fn translatable<A: Address>(headers: &Headers<A>, part: Part) -> Result<Part, Outcome> {
    if matches!(part, Part::First) && headers.tuple.protocol == Protocol::SCTP {
        Err(Outcome::Fragment)
    } else {
        Ok(part)
    }
}

/// Whether a frame bears a VLAN tag (IEEE 802.1Q, and 802.1ad's outer one).
#[inline(always)]
pub fn has_tag<P: Packet + ?Sized>(packet: &mut P) -> bool {
    let Some([.., high, low]) = packet.header::<{ crate::packet::LINK_HEADER }>(0) else {
        return false;
    };
    matches!([*high, *low], [0x81, 0x00] | [0x88, 0xa8])
}

/// Reads the ports of a quoted packet, of which eight bytes of transport header are there; returns
/// where it begins.
#[inline(always)]
fn quoted_ports<A: Address, P: Packet + ?Sized>(
    packet: &mut P,
    tuple: &mut Tuple<A>,
    protocol: Protocol,
    offset: usize,
) -> Option<usize>
where
    Tuple<A>: bytemuck::Pod,
{
    if !matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
        return None;
    }
    let (ports, _) = transport::udp(packet, offset)?;
    tuple.source_port = ports.source();
    tuple.destination_port = ports.destination();
    tuple.set_protocol(protocol);
    Some(offset)
}

/// Reads on into the transport header, once the IP header has filled the rest in.
#[inline(always)]
fn read_transport<V: IpVersion, P: Packet + ?Sized>(
    packet: &mut P,
    headers: &mut Headers<V::Address>,
    protocol: Protocol,
    offset: usize,
) -> Result<(), Outcome>
where
    Tuple<V::Address>: bytemuck::Pod,
{
    let (ports, flags) = match protocol {
        Protocol::TCP => transport::tcp(packet, offset),
        Protocol::UDP => transport::udp(packet, offset),
        Protocol::SCTP => {
            let end = V::end(packet).ok_or(Outcome::Malformed)?;
            sctp::sctp(packet, offset, end)
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            headers.transport = offset as u32;
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
