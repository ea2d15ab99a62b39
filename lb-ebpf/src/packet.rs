//! A packet's bytes, wherever they are.

use crate::checksum::{self, Difference};

/// A transport checksum that has to follow a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportChecksum {
    /// Where it stands, in bytes from the start of the frame.
    pub offset: usize,
    /// Zero means that there is none: UDP.
    pub zero_is_none: bool,
    /// What has changed in the pseudo-header: the addresses.
    pub pseudo_header: Difference,
    /// What has changed in the segment itself: the ports.
    pub segment: Difference,
    /// The pseudo-header is IPv6's.
    pub is_v6: bool,
}

/// Why a packet could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unwritable;

/// The bytes of a frame, from its Ethernet header on.
pub trait Packet {
    /// The `N` bytes at `offset`, or `None` where the packet ends first. Ask for whole headers:
    /// each call costs a bounds check.
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// The frame's length in bytes, link header included.
    fn length(&self) -> u32;

    /// Whether the IP packet, or each of the packets it will be cut into, is larger than `mtu`
    /// bytes.
    fn exceeds(&self, mtu: u32) -> bool;

    /// Lets a transport checksum follow a change. By default it is complete, hence arithmetic is
    /// right; a hook whose packets may carry partial ones overrides this.
    ///
    /// # Errors
    /// The checksum lies outside the packet, or the kernel refused.
    #[inline(always)]
    fn update(&mut self, update: TransportChecksum) -> Result<(), Unwritable> {
        let field = self.header::<2>(update.offset).ok_or(Unwritable)?;
        let difference = update.pseudo_header.and(update.segment);
        *field = if update.zero_is_none {
            checksum::applied_to_udp(difference, *field)
        } else {
            difference.applied_to(*field)
        };
        Ok(())
    }
}

/// Bytes of an Ethernet header.
pub const LINK_HEADER: usize = 14;

/// A frame in memory.
impl Packet for [u8] {
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.get_mut(offset..)?.first_chunk_mut()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn exceeds(&self, mtu: u32) -> bool {
        self.length().saturating_sub(LINK_HEADER as u32) > mtu
    }
}
