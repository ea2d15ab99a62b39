//! TCP (RFC 9293) and UDP (RFC 768): ports, flags, and where the checksum stands.

use lb_common::address::{Port, Ports, Protocol};

use crate::checksum::Difference;
use crate::packet::{Packet, WriteError};

/// TCP's flags (RFC 9293, 3.1), as far as conntrack follows them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub(super) const FIN: u8 = 1;
    pub(super) const SYN: u8 = 1 << 1;
    pub(super) const RST: u8 = 1 << 2;
    pub(super) const ACK: u8 = 1 << 4;

    /// The sender has nothing more to send: FIN.
    #[inline(always)]
    #[must_use]
    pub const fn closes(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// The sender aborts the connection, or knows of none.
    #[inline(always)]
    #[must_use]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// The acknowledgment number means something: ACK.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledges(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// The second segment of a connection: SYN and ACK.
    #[inline(always)]
    #[must_use]
    pub const fn accepts(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    /// SYN, with ACK or without: its sender waits for a reply.
    #[inline(always)]
    #[must_use]
    pub const fn is_handshake(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// The first segment of a connection: SYN without ACK.
    #[inline(always)]
    #[must_use]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// A segment that only answers: RST, or SYN with ACK.
    #[inline(always)]
    #[must_use]
    pub const fn only_answers(self) -> bool {
        self.resets() || self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }
}

/// Bytes of a UDP header.
pub const UDP_HEADER: u32 = 8;

/// Bytes of the TCP header at `offset`, options included; 0 if it is cut short.
#[inline(always)]
pub fn tcp_header_length<P: Packet + ?Sized>(packet: &mut P, offset: usize) -> u32 {
    packet.header::<13>(offset).map_or(0, |[.., words]| u32::from(*words >> 4) * 4)
}

/// Two numbers of a transport header that a sender must know of its flow, in the machine's byte order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Proof {
    /// TCP: the sequence number. SCTP: the verification tag; of an INIT or INIT ACK the initiate tag, which
    /// is the verification tag of what comes back. UDP: 0.
    pub sequence: u32,
    /// TCP: the acknowledgment number; 0 where there is none.
    pub acknowledgment: u32,
}

/// What a walk reads of a transport header.
pub type Transport = (Ports, TcpFlags, Proof);

/// Ports, flags and numbers of the TCP header at `offset`; `None` if it is cut short.
#[inline(always)]
pub fn tcp<P: Packet + ?Sized>(packet: &mut P, offset: usize) -> Option<Transport> {
    let [a, b, c, d, s, t, u, v, w, x, y, z, _, flags, ..] = *packet.header::<20>(offset)?;
    let flags = TcpFlags(flags);
    let acknowledgment = if flags.acknowledges() { u32::from_be_bytes([w, x, y, z]) } else { 0 };
    let proof = Proof { sequence: u32::from_be_bytes([s, t, u, v]), acknowledgment };
    Some((Ports([a, b, c, d]), flags, proof))
}

/// Ports of the UDP header at `offset`; `None` if it is cut short.
#[inline(always)]
pub fn udp<P: Packet + ?Sized>(packet: &mut P, offset: usize) -> Option<Transport> {
    let [a, b, c, d, ..] = *packet.header::<8>(offset)?;
    Some((Ports([a, b, c, d]), TcpFlags::default(), Proof::default()))
}

/// Sets both ports of the header at `offset`; returns what has changed.
///
/// # Errors
/// The header is not there.
#[inline(always)]
pub fn set_ports<P: Packet + ?Sized>(
    packet: &mut P,
    offset: usize,
    source: Port,
    destination: Port,
) -> Result<Difference, WriteError> {
    let (before, after) = replace_ports(packet, offset, source, destination)?;
    Ok(Difference::NONE.word(before, after))
}

/// Sets both ports of the header at `offset`; returns what they were and are, as words in the
/// machine's byte order.
///
/// # Errors
/// The header is not there.
#[inline(always)]
pub fn replace_ports<P: Packet + ?Sized>(
    packet: &mut P,
    offset: usize,
    source: Port,
    destination: Port,
) -> Result<(u32, u32), WriteError> {
    let ports = packet.header::<4>(offset).ok_or(WriteError)?;
    let before = u32::from_ne_bytes(*ports);
    // One word and not four bytes, of which the processor could not make a word again at once.
    let after = word(source, destination);
    *ports = after.to_ne_bytes();
    Ok((before, after))
}

/// Both ports side by side, as a word in the machine's byte order.
#[inline(always)]
const fn word(source: Port, destination: Port) -> u32 {
    let (first, second) = (u16::from_ne_bytes(source.0), u16::from_ne_bytes(destination.0));
    if cfg!(target_endian = "little") {
        first as u32 | (second as u32) << 16
    } else {
        (first as u32) << 16 | second as u32
    }
}

/// Where the checksum stands within the header of `protocol`.
#[inline(always)]
pub const fn checksum_offset(protocol: Protocol) -> usize {
    if protocol.0 == Protocol::UDP.0 { 6 } else { 16 }
}
