//! The two IP versions behind one trait: the walk is written once, generic over it, and compiled at two
//! key widths.

use lb_common::address::{Address, Tuple};
use lb_common::fragment::Fragmented;
use lb_common::outcome::Outcome;

use super::headers::{Extent, Headers, Part};
use crate::checksum::Difference;
use crate::packet::{COPIED, Packet, WriteError};

/// TTL or hop limit of packets that this node originates.
pub(crate) const OWN_HOP_LIMIT: u8 = 64;

/// One IP version.
pub trait IpVersion {
    /// Its addresses.
    type Address: Address;

    /// Parses the headers of a packet into `headers`.
    ///
    /// # Errors
    /// The outcome of a packet that is not balanced, or that the slow path takes.
    fn parse<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<Self::Address>,
    ) -> Result<(), Outcome>;

    /// Bytes of the header, without options.
    const HEADER: usize;

    /// Parses the headers of a packet that [`IpVersion::parse`] leaves to the slow path: a fragment, or
    /// one with extension headers. Which packet a fragment belongs to is written to `fragmented`, and
    /// how much of it to `extent`.
    ///
    /// # Errors
    /// The outcome of a packet that is not balanced.
    fn parse_all<P: Packet + ?Sized>(
        packet: &mut P,
        headers: &mut Headers<Self::Address>,
        fragmented: &mut Fragmented<Self::Address>,
        extent: &mut Extent,
    ) -> Result<Part, Outcome>;

    /// Parses the tuple of a packet that an ICMP error quotes at `at`, below [`super::MAX_TRANSPORT_OFFSET`];
    /// returns where its transport header begins, or `None` if it has none that Weir balances.
    fn parse_quoted<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        tuple: &mut Tuple<Self::Address>,
    ) -> Option<usize>;

    /// Where the packet ends, in bytes from the start of the frame, by its own header.
    fn end<P: Packet + ?Sized>(packet: &mut P) -> Option<u32>;

    /// Writes a header at the beginning of `bytes`, for `length` bytes of ICMP.
    fn write_header(
        bytes: &mut [u8; COPIED],
        from: &Self::Address,
        to: &Self::Address,
        length: u32,
    );

    /// The sum of the pseudo-header that ICMP's checksum covers; ICMP for IPv4 has none.
    fn pseudo_header(from: &Self::Address, to: &Self::Address, length: u32) -> Difference;

    /// Sets both addresses of the header at `at`, takes `hops` from the TTL or hop limit, and updates the IP
    /// header's own checksum. Returns what has changed under the pseudo-header.
    ///
    /// # Errors
    /// The header is not there.
    fn rewrite<P: Packet + ?Sized>(
        packet: &mut P,
        at: usize,
        source: &Self::Address,
        destination: &Self::Address,
        hops: u8,
    ) -> Result<Difference, WriteError>;
}
