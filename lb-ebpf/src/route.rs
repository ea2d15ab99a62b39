//! Routes, as the kernel gives them.

use lb_common::outcome::Outcome;

/// The next hop on the route to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Interface index of the egress device.
    pub device: u32,
    /// MTU of the route, in bytes; 0 if not known.
    pub mtu: u32,
    /// Link addresses of the next hop and of the device; `None` while the neighbour is not
    /// resolved: the kernel then fills them in.
    pub link: Option<Link>,
}

/// The two link addresses of a frame, as they stand in its first twelve bytes. They are kept in
/// words of the machine's byte order, because the BPF compiler copies bytes one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Link(pub [u32; 3]);

impl Link {
    /// The link addresses of a frame to `destination` from `source`.
    #[inline(always)]
    #[must_use]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }
}

impl Link {
    /// The link addresses of a frame in the other direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Self {
        let Self([first, second, third]) = self;
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) =
            (first.to_ne_bytes(), second.to_ne_bytes(), third.to_ne_bytes());
        Self::new([g, h, i, j, k, l], [a, b, c, d, e, f])
    }
}

/// What a route is looked up for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// To know the device that a flow's packets will leave by, whose address becomes their source.
    Source,
    /// To send a packet.
    Send,
    /// To send a packet that no other of its flow follows before there is a reply, so that none can
    /// overtake it.
    SendAlone,
    /// As [`Use::Source`], for a packet of this node's own.
    OwnSource,
    /// As [`Use::Send`], for a packet of this node's own.
    SendOwn,
}

impl Use {
    /// Whether a packet is to be sent by the route.
    #[inline(always)]
    #[must_use]
    pub const fn sends(self) -> bool {
        !matches!(self, Self::Source | Self::OwnSource)
    }

    /// Whether the packet is this node's own.
    #[inline(always)]
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::OwnSource | Self::SendOwn)
    }
}

/// The result of a FIB lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibResult {
    /// There is a route.
    Found(NextHop),
    /// XDP cannot send there: the packet is left to the full program at TC.
    LeftToTc,
    /// There is no route.
    Unreachable,
}

impl FibResult {
    /// The next hop.
    ///
    /// # Errors
    /// The outcome of a packet that has none.
    #[inline(always)]
    pub const fn next_hop(self) -> Result<NextHop, Outcome> {
        match self {
            Self::Found(next_hop) => Ok(next_hop),
            Self::LeftToTc => Err(Outcome::PassedLeftToTc),
            Self::Unreachable => Err(Outcome::DroppedNoRoute),
        }
    }
}
