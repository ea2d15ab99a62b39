//! Frontends: what clients connect to, and what each source class gets there.

use core::fmt;

use crate::address::{Address, Port, Protocol, endpoint};

/// Identifies a Service port in the maps of this node; 0 is never used. Its names
/// are in the `SERVICES` map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct ServiceId(pub u32);

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    /// The Service port this frontend belongs to.
    pub service: ServiceId,
    /// A pool for each [`SourceClass`], in the order of [`SourceClass::ALL`].
    pub pools: [Pool; 3],
    /// How long, in [`Ticks`](crate::conntrack::Ticks), a client keeps its backend after it began
    /// a flow; 0 without session affinity.
    pub affinity: u32,
    /// [`FrontendRow::RESTRICTED`], and [`FrontendRow::LOCAL`] for each source class.
    pub flags: u32,
}

impl FrontendRow {
    /// Only clients within the Service port's `SRC_RANGES_*` are served.
    pub const RESTRICTED: u32 = 1;
    /// Shifted by the number of a [`SourceClass`]: its pool follows the traffic policy Local.
    pub const LOCAL: u32 = 1 << 1;

    /// Whether only clients within the source ranges are served.
    #[inline(always)]
    #[must_use]
    pub const fn is_restricted(&self) -> bool {
        self.flags & Self::RESTRICTED != 0
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

/// The policy of an address that is a Service's, or this node's: what happens to packets to the address
/// that are for no frontend. The value of `IP_POLICY_*`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct IpPolicy {
    /// [`IpPolicy::CLUSTER_IP`], [`IpPolicy::ECHO`].
    pub flags: u32,
}

impl IpPolicy {
    /// A cluster IP: packets to a port that its Service does not have are rejected.
    pub const CLUSTER_IP: u32 = 1;
    /// Echo requests get a reply from this node: no host has the address.
    pub const ECHO: u32 = 1 << 1;

    /// Whether packets to a port of no frontend are rejected.
    #[inline(always)]
    #[must_use]
    pub const fn rejects(&self) -> bool {
        self.flags & Self::CLUSTER_IP != 0
    }

    /// Whether echo requests get a reply.
    #[inline(always)]
    #[must_use]
    pub const fn replies_to_echo(&self) -> bool {
        self.flags & Self::ECHO != 0
    }
}

/// Longest namespace or name that Kubernetes allows for a Service (RFC 1035 label), in bytes.
pub const LABEL_LENGTH: usize = 63;

/// Names of a Service port, each padded with zeroes: the value of `SERVICES`. From it `weir show` and a
/// restarted agent know which Service port an id belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ServiceLabel {
    /// The Service's namespace.
    pub namespace: [u8; LABEL_LENGTH + 1],
    /// The Service's name.
    pub name: [u8; LABEL_LENGTH + 1],
    /// The name of its port, empty where it has none.
    pub port: [u8; LABEL_LENGTH + 1],
    /// The port's protocol.
    pub protocol: Protocol,
    /// Always zero.
    pub zero: [u8; 3],
}

impl ServiceLabel {
    /// The label for these names, or `None` if one is longer than [`LABEL_LENGTH`] or holds a zero
    /// byte.
    #[must_use]
    pub fn new(namespace: &str, name: &str, port: &str, protocol: Protocol) -> Option<Self> {
        Some(Self {
            namespace: padded(namespace)?,
            name: padded(name)?,
            port: padded(port)?,
            protocol,
            zero: [0; 3],
        })
    }

    /// Namespace, name and port name; what is not UTF-8 reads as empty.
    #[must_use]
    pub fn names(&self) -> (&str, &str, &str) {
        (unpadded(&self.namespace), unpadded(&self.name), unpadded(&self.port))
    }
}

impl fmt::Display for ServiceLabel {
    /// `namespace/name`, and `:port` where the port has a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name, port) = self.names();
        write!(f, "{namespace}/{name}")?;
        if port.is_empty() { Ok(()) } else { write!(f, ":{port}") }
    }
}

impl fmt::Debug for ServiceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}/{}", self.protocol)
    }
}

fn padded(text: &str) -> Option<[u8; LABEL_LENGTH + 1]> {
    let mut bytes = [0; LABEL_LENGTH + 1];
    if text.contains('\0') || text.len() > LABEL_LENGTH {
        return None;
    }
    bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(bytes)
}

fn unpadded(bytes: &[u8]) -> &str {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    core::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::{String, ToString};

    #[test]
    fn an_empty_pool_keeps_its_reason() {
        for reason in [EmptyPoolReason::NoEndpoint, EmptyPoolReason::NoLocalEndpoint] {
            assert_eq!(Pool::empty(reason).empty_reason(), Some(reason));
        }
        assert_eq!(Pool { base: 1, length: 1 }.empty_reason(), None);
    }

    #[test]
    fn a_label_returns_its_names() {
        let label = ServiceLabel::new("default", "web", "http", Protocol::TCP).unwrap();
        assert_eq!(label.names(), ("default", "web", "http"));
        assert_eq!(label.to_string(), "default/web:http");
        assert_eq!(
            ServiceLabel::new("default", "web", "", Protocol::TCP).unwrap().to_string(),
            "default/web"
        );
    }

    #[test]
    fn a_label_that_does_not_fit_is_refused() {
        let long: String = core::iter::repeat_n('a', LABEL_LENGTH + 1).collect();
        assert_eq!(ServiceLabel::new("default", &long, "", Protocol::TCP), None);
        assert_eq!(ServiceLabel::new("de\0fault", "web", "", Protocol::TCP), None);
    }
}
