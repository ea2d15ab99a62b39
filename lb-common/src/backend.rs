//! Backends: where packets are sent.

use core::fmt;

use crate::address::{Address, Port, Protocol};
use crate::service::ServiceId;

/// Index of a row of `BACKENDS_V4` or `BACKENDS_V6` (each family has its own ids), below
/// [`BackendId::END`]; 0 is never used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct BackendId(pub u32);

impl BackendId {
    /// Bits of an id in the conntrack tables.
    pub const BITS: u32 = 20;
    /// No backend has this id, nor a higher one.
    pub const END: u32 = (1 << Self::BITS) - 1;
    /// No backend: the id of flows that are not a Service's.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The backend of one Service port at one address and port; the value of `BACKENDS_*`.
///
/// The map is an array, which the kernel copies into without a lock, so address, port and
/// generation of a row in use never change: a row is written while nothing refers to it, and its id
/// is reused only when nothing refers to it any more. Only `flags` changes in between, one byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Backend<A> {
    /// Where packets go.
    pub address: A,
    /// The port they go to.
    pub port: Port,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// [`Backend::SERVING`], [`Backend::LOCAL`], [`Backend::FOR_CLUSTER`], [`Backend::FOR_LOCAL`].
    pub flags: u8,
    /// Distinguishes the row from the one that had the same id before; 0 is a free row.
    pub generation: u32,
    /// The Service port it serves.
    pub service: ServiceId,
}

impl<A: Address> Backend<A> {
    /// A free row.
    #[inline(always)]
    #[must_use]
    pub fn empty() -> Self {
        Self {
            address: A::zeroed(),
            port: Port::new(0),
            protocol: Protocol(0),
            flags: 0,
            generation: 0,
            service: ServiceId(0),
        }
    }
}

/// How many generations an entry of a flow distinguishes.
pub const GENERATIONS: u32 = 1 << 12;

impl<A> Backend<A> {
    /// Whether this row was there under its id when a flow with this `generation`, modulo [`GENERATIONS`],
    /// began.
    #[inline(always)]
    #[must_use]
    pub const fn is_of(&self, generation: u32) -> bool {
        (self.generation ^ generation).is_multiple_of(GENERATIONS)
    }

    /// Serving: there is an endpoint. Without it the row is kept for conntrack entries that refer to it,
    /// and UDP flows move to another backend at their next packet.
    pub const SERVING: u8 = 1;
    /// On this node, hence reached without leaving it.
    pub const LOCAL: u8 = 2;
    /// Among those that a new flow may get under the traffic policy Cluster.
    pub const FOR_CLUSTER: u8 = 1 << 2;
    /// Among those that a new flow may get under the traffic policy Local.
    pub const FOR_LOCAL: u8 = 1 << 3;

    /// Whether this backend may be given to flows.
    #[inline(always)]
    #[must_use]
    pub const fn is_serving(&self) -> bool {
        self.flags & Self::SERVING != 0
    }

    /// Whether a new flow may get this backend under the traffic policy Local if `is_local`, else Cluster.
    #[inline(always)]
    #[must_use]
    pub const fn is_for(&self, is_local: bool) -> bool {
        let wanted = if is_local { Self::FOR_LOCAL } else { Self::FOR_CLUSTER };
        self.flags & wanted != 0
    }

    /// Whether this backend is on this node.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.flags & Self::LOCAL != 0
    }
}

/// The traffic of one backend since its row was written; per CPU in `TRAFFIC_*`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct Traffic {
    /// New flows.
    pub connections: u64,
    /// Packets towards the backend.
    pub packets: u64,
    /// Their length in bytes, link header included.
    pub bytes: u64,
    /// Packets from the backend.
    pub reply_packets: u64,
    /// Their length in bytes, link header included.
    pub reply_bytes: u64,
}
