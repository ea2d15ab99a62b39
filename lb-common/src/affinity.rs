//! Session affinity: the last backend of a client, per Service port.

use crate::backend::BackendId;
use crate::conntrack::Ticks;
use crate::service::ServiceId;

/// A client of a Service port: the key of `AFFINITY_*`. All frontends of the port share it, and no
/// two ports do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Client<A> {
    /// The client's address, before any translation.
    pub address: A,
    /// The Service port.
    pub service: ServiceId,
}

/// The backend of a client; the value of `AFFINITY_*`. The walk writes it, and only the kernel removes it,
/// by LRU: an entry of a removed backend is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Affinity {
    /// The backend.
    pub backend: BackendId,
    /// Its generation.
    pub generation: u32,
    /// When the client last began a flow.
    pub last_used: Ticks,
}
