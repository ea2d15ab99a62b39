//! Frontends: what clients connect to, and what each source class gets there.

use core::fmt;

use super::label::ServiceId;
use crate::address::{Address, Port, Protocol, endpoint};

/// Address, port and protocol that a client connects to: a ClusterIP, a node's address with a node port,
/// a load balancer's VIP, an external IP. The key of `FRONTENDS_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Frontend<A> {
    /// The address.
    pub address: A,
    /// The port.
    pub port: Port,
    /// The protocol.
    pub protocol: Protocol,
    /// Always zero: keys are compared byte by byte.
    pub zero: u8,
}

impl<A: Address> Frontend<A> {
    /// The frontend at `address`, `port` and `protocol`.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: A, port: Port, protocol: Protocol) -> Self {
        Self { address, port, protocol, zero: 0 }
    }
}

impl<A: Address> fmt::Display for Frontend<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", endpoint(self.address.to_ip(), self.port), self.protocol)
    }
}

/// The class of a packet's sender, by its ingress device and never by its addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SourceClass {
    /// A pod of this node.
    Pod = 0,
    /// Anything outside this node.
    Network = 1,
    /// A process of this node's own network namespace.
    Host = 2,
}

impl SourceClass {
    /// All classes, in the order of [`FrontendRow::pools`].
    pub const ALL: [Self; 3] = [Self::Pod, Self::Network, Self::Host];
}

impl fmt::Display for SourceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Network => "network",
            Self::Host => "host",
        })
    }
}

/// The backends a new flow may get, as a range of `SLOTS`; or, where the range is empty, why there
/// are none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Pool {
    /// First slot; in an empty pool, the number of a [`EmptyPoolReason`].
    pub base: u32,
    /// How many slots; 0 is an empty pool.
    pub length: u32,
}

impl Pool {
    /// A pool without backends for this reason.
    #[must_use]
    pub const fn empty(reason: EmptyPoolReason) -> Self {
        Self { base: reason as u32, length: 0 }
    }

    /// Why there is no backend, or `None` if there are some.
    #[inline(always)]
    #[must_use]
    pub const fn empty_reason(&self) -> Option<EmptyPoolReason> {
        if self.length > 0 {
            None
        } else if self.base == EmptyPoolReason::NoLocalEndpoint as u32 {
            Some(EmptyPoolReason::NoLocalEndpoint)
        } else {
            Some(EmptyPoolReason::NoEndpoint)
        }
    }
}

/// Why a flow to a frontend gets no backend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum EmptyPoolReason {
    /// No endpoint is usable anywhere; kube-proxy rejects these with ICMP port unreachable.
    NoEndpoint = 0,
    /// The traffic policy is Local and there are only remote endpoints; kube-proxy drops these silently.
    NoLocalEndpoint = 1,
}

/// What a frontend's clients get; the value of `FRONTENDS_*`. It is replaced as a whole, hence a
/// packet sees the old or the new row and never a mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct FrontendRow {
    /// See below.
    #[cfg(feature = "other-layout")]
    pub flags: u32,
    /// The Service port this frontend belongs to.
    pub service: ServiceId,
    /// A pool for each [`SourceClass`], in the order of [`SourceClass::ALL`].
    pub pools: [Pool; 3],
    /// How long, in [`Ticks`](crate::conntrack::Ticks), a client keeps its backend after it began
    /// a flow; 0 without session affinity.
    pub affinity: u32,
    /// [`FrontendRow::RESTRICTED`], [`FrontendRow::SOCKETS_FIRST`], and [`FrontendRow::LOCAL`] for each source class.
    #[cfg(not(feature = "other-layout"))]
    pub flags: u32,
}

impl FrontendRow {
    /// Only clients within the Service port's `SRC_RANGES_*` are served.
    pub const RESTRICTED: u32 = 1;
    /// Shifted by the number of a [`SourceClass`]: its pool follows the traffic policy Local.
    pub const LOCAL: u32 = 1 << 1;
    /// It is a cluster IP that a device of this node has: a socket of the node that listens there is served before the
    /// Service's backends, as NodeLocal DNSCache wants it.
    pub const SOCKETS_FIRST: u32 = 1 << 4;

    /// Whether only clients within the source ranges are served.
    #[inline(always)]
    #[must_use]
    pub const fn is_restricted(&self) -> bool {
        self.flags & Self::RESTRICTED != 0
    }

    /// Whether a socket of the node that listens at the frontend comes first.
    #[inline(always)]
    #[must_use]
    pub const fn serves_sockets_first(&self) -> bool {
        self.flags & Self::SOCKETS_FIRST != 0
    }

    /// Whether the pool for packets of `class` follows the traffic policy Local.
    #[inline(always)]
    #[must_use]
    pub const fn is_local(&self, class: SourceClass) -> bool {
        self.flags & (Self::LOCAL << class as u32) != 0
    }

    /// The pool for packets of `class`.
    #[inline(always)]
    #[must_use]
    pub const fn pool(&self, class: SourceClass) -> Pool {
        let [pod, network, host] = self.pools;
        match class {
            SourceClass::Pod => pod,
            SourceClass::Network => network,
            SourceClass::Host => host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pool_keeps_its_reason() {
        for reason in [EmptyPoolReason::NoEndpoint, EmptyPoolReason::NoLocalEndpoint] {
            assert_eq!(Pool::empty(reason).empty_reason(), Some(reason));
        }
        assert_eq!(Pool { base: 1, length: 1 }.empty_reason(), None);
    }
}
