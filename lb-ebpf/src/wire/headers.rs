//! What a walk needs of a packet's headers: data, filled in by the IP versions' parsers.

use lb_common::address::{Address, Tuple};

use super::transport::{Proof, TcpFlags};

/// Transport headers begin below this byte of a frame; a power of two. Six extension headers of usual
/// size fit in.
pub(crate) const MAX_TRANSPORT_OFFSET: usize = 256;

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
    pub(super) const fn of(start: u32, end: u32, offset: u32, is_last: bool) -> Self {
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
    pub(super) transport: u32,
    /// TCP's flags; none for UDP.
    pub flags: TcpFlags,
    /// TTL or hop limit.
    pub hops: u8,
    /// What a stranger to the flow would have to guess.
    pub proof: Proof,
}

impl<A: Address> Headers<A> {
    /// Empty headers to parse into.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            tuple: Tuple::empty(),
            transport: 0,
            flags: TcpFlags::default(),
            hops: 0,
            proof: Proof::default(),
        }
    }

    /// Where the transport header begins, in bytes from the start of the frame: below
    /// [`MAX_TRANSPORT_OFFSET`]. The bound is stated for the verifier, which forgets it where headers are kept
    /// in a map.
    #[inline(always)]
    #[must_use]
    pub const fn transport(&self) -> usize {
        (self.transport & (MAX_TRANSPORT_OFFSET as u32 - 1)) as usize
    }

    /// Whether the packet is a fragment without transport header: only its addresses can change.
    #[inline(always)]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.transport == 0
    }

    /// Makes these the headers of a later fragment, which has no transport header.
    #[inline(always)]
    pub fn set_later_fragment(&mut self) {
        self.transport = 0;
        self.flags = TcpFlags::default();
        self.proof = Proof::default();
    }
}
