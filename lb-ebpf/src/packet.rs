//! A packet's bytes, wherever they are.

use lb_common::outcome::Outcome;

use crate::checksum::Difference;

/// The most bytes of a packet that are copied or replaced at once: an ICMPv6 error with 512 bytes of
/// the packet that it is about.
pub const COPIED: usize = 48 + QUOTED as usize;

/// Bytes of the packet that an error quotes, at most. RFC 1812 wants as many as fit into 576 bytes
/// with the headers, which is as good as met; RFC 4443 as many as fit into 1,280, of which senders
/// read the first 48 (IPv6 header and ports).
pub const QUOTED: u32 = 512;

/// The longest frame that is queued, in bytes: an Ethernet frame, and some more.
pub const MAX_QUEUED_FRAME: u32 = 2044;

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

impl TransportChecksum {
    /// What `checksum`, complete and as it stands in the packet, becomes by `difference`.
    #[inline(always)]
    #[must_use]
    pub const fn applied(&self, difference: Difference, checksum: [u8; 2]) -> [u8; 2] {
        if self.zero_is_none {
            difference.applied_to_udp(checksum)
        } else {
            difference.applied_to(checksum)
        }
    }
}

/// Why a packet could not be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteError;

impl From<WriteError> for Outcome {
    fn from(WriteError: WriteError) -> Self {
        Self::DroppedWriteError
    }
}

/// The bytes of a frame, from its Ethernet header on.
///
/// ```
/// use lb_ebpf::packet::{LINK_HEADER, Packet};
///
/// // In memory a packet is a vector; the kernel programs wrap a socket buffer or a driver's buffer.
/// let mut frame = vec![0; 60];
/// *frame.header::<2>(12).expect("the frame has an Ethernet header") = [0x08, 0x00];
/// assert_eq!(frame.header::<20>(LINK_HEADER), Some(&mut [0; 20]));
/// assert_eq!(frame.header::<20>(50), None, "the frame ends first");
/// assert_eq!(frame.segment(), 0, "the kernel will not cut it");
/// ```
pub trait Packet {
    /// Whether the link header is there. The packets of tunnels such as IPIP and WireGuard have none; then offsets count
    /// as if there were one, and nothing is at those below [`LINK_HEADER`].
    const HAS_LINK_HEADER: bool = true;

    /// The EtherType; `None` where the packet ends first.
    #[inline(always)]
    fn ether_type(&mut self) -> Option<[u8; 2]> {
        let [.., high, low] = *self.header::<LINK_HEADER>(0)?;
        Some([high, low])
    }

    /// The `N` bytes at `offset`, or `None` where the packet ends first. Ask for whole headers:
    /// each call costs a bounds check.
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;

    /// The frame's length in bytes, link header included.
    fn length(&self) -> u32;

    /// Bytes of transport payload in each of the packets that the kernel will cut this one into
    /// (`gso_size`); 0 if it will not.
    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }

    /// Makes the first `length` bytes of the frame readable by [`Packet::header`], where the kernel keeps
    /// some of them outside the linear part of the buffer (`bpf_skb_pull_data`).
    #[inline(always)]
    fn pull(&mut self, _length: u32) {}

    /// Copies `length` bytes at `offset` to `into`, from its byte `at` on; `length` is 1 to
    /// [`QUOTED`], `at` at most [`COPIED`] - [`QUOTED`].
    ///
    /// # Errors
    /// The packet ends first.
    fn copy(
        &mut self,
        offset: usize,
        length: u32,
        into: &mut [u8; COPIED],
        at: usize,
    ) -> Result<(), WriteError>;

    /// Makes the IP packet in the frame one of the first `length` bytes of `from`, whose checksums are
    /// complete; `length` is 1 to [`COPIED`].
    ///
    /// # Errors
    /// The kernel refused. The packet may be half changed, and must be dropped.
    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), WriteError>;

    /// Lets a transport checksum follow a change. By default it is complete, hence arithmetic is
    /// right; a hook whose packets may carry partial ones overrides this.
    ///
    /// # Errors
    /// The checksum lies outside the packet, or the kernel refused.
    #[inline(always)]
    fn update(&mut self, update: TransportChecksum) -> Result<(), WriteError> {
        let field = self.header::<2>(update.offset).ok_or(WriteError)?;
        *field = update.applied(update.pseudo_header.and(update.segment), *field);
        Ok(())
    }
}

/// Bytes of an Ethernet header.
pub const LINK_HEADER: usize = 14;
