//! The policy of an address.

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
