//! The settings of the programs: one row.

use crate::address::{Address, V4, V6};
use crate::snat::{Rows, TIERS};

/// The one row of `SETTINGS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Settings {
    /// Cookie of the network namespace whose processes are of class
    /// [`Host`](crate::service::SourceClass::Host) (`SO_NETNS_COOKIE`, Linux 5.14); 0 for none.
    pub namespace: u64,
    /// Source ports for SNAT, the tiers in the order they are tried; all empty until the agent has written
    /// the row, and until then no flow with SNAT is created.
    pub snat_tiers: [Rows; TIERS],
    /// Contains every IPv4 cluster IP and service CIDR: a packet to an address outside is not addressed
    /// to a Service, unless to a frontend.
    pub services_v4: Prefix<V4>,
    /// The same for IPv6.
    pub services_v6: Prefix<V6>,
    /// The node's own IPv4 address, used for a process of this node whose socket has no source address
    /// yet. Unspecified if there is none.
    pub own_v4: V4,
    /// The same for IPv6.
    pub own_v6: V6,
    /// [`Settings::PODS_SOCKETS`], [`Settings::ROUTES_BY_SOURCE`], [`Settings::DEFAULT_ROUTE_V4`],
    /// [`Settings::DEFAULT_ROUTE_V6`]
    pub flags: u32,
}

impl Settings {
    /// Socket load balancing for pods too, not only for the node's own processes.
    pub const PODS_SOCKETS: u32 = 1;

    /// Which way a packet goes may depend on its source address (`ip rule from`).
    pub const ROUTES_BY_SOURCE: u32 = 1 << 1;

    /// A default route of IPv4 leaves by a device that has programs: what the node sends to any address passes one.
    pub const DEFAULT_ROUTE_V4: u32 = 1 << 2;

    /// The same for IPv6.
    pub const DEFAULT_ROUTE_V6: u32 = 1 << 3;

    /// The settings before the agent has written any.
    #[must_use]
    pub fn nothing() -> Self {
        bytemuck::Zeroable::zeroed()
    }

    /// Whether which way a packet goes may depend on its source address.
    #[inline(always)]
    #[must_use]
    pub const fn routes_by_source(&self) -> bool {
        self.flags & Self::ROUTES_BY_SOURCE != 0
    }

    /// Whether sockets of pods are load balanced.
    #[inline(always)]
    #[must_use]
    pub const fn balances_pods_sockets(&self) -> bool {
        self.flags & Self::PODS_SOCKETS != 0
    }
}

/// A range of addresses, as an address and a mask.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Prefix<A> {
    /// The first address.
    pub first: A,
    /// The netmask. All zero for the empty range, as before the agent has written it, and for the range
    /// of all addresses, whose `first` is not zero.
    pub mask: A,
}

impl<A: Address> Prefix<A> {
    /// The empty range.
    #[must_use]
    pub fn nothing() -> Self {
        Self { first: A::zeroed(), mask: A::zeroed() }
    }

    /// The range of all addresses.
    #[must_use]
    pub fn everything() -> Self {
        let mut first = A::zeroed();
        bytemuck::bytes_of_mut(&mut first).fill(0xff);
        Self { first, mask: A::zeroed() }
    }

    /// Whether the range contains `address`.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, address: &A) -> bool {
        let ([a, b], [c, d], [e, f]) = (halves(address), halves(&self.first), halves(&self.mask));
        let differs = ((a ^ c) & e) | ((b ^ d) & f);
        differs == 0 && (c | d | e | f) != 0
    }
}

/// An address as two 64-bit words: fewer instructions than with 32-bit words, for every packet that is
/// not for a Service.
#[inline(always)]
fn halves<A: Address>(address: &A) -> [u64; 2] {
    let [a, b, c, d] = address.words().map(u64::from);
    [a | b << 32, c | d << 32]
}

/// The settings of one address family.
pub trait InSettings: Address {
    /// The range that contains this family's cluster IPs and service CIDRs.
    fn of_services(settings: &Settings) -> &Prefix<Self>;
    /// The node's own address.
    fn own(settings: &Settings) -> Self;
    /// Whether a default route leaves by a device that has programs.
    fn has_default_route(settings: &Settings) -> bool;
}

impl InSettings for V4 {
    #[inline(always)]
    fn of_services(settings: &Settings) -> &Prefix<Self> {
        &settings.services_v4
    }

    #[inline(always)]
    fn own(settings: &Settings) -> Self {
        settings.own_v4
    }

    #[inline(always)]
    fn has_default_route(settings: &Settings) -> bool {
        settings.flags & Settings::DEFAULT_ROUTE_V4 != 0
    }
}

impl InSettings for V6 {
    #[inline(always)]
    fn of_services(settings: &Settings) -> &Prefix<Self> {
        &settings.services_v6
    }

    #[inline(always)]
    fn own(settings: &Settings) -> Self {
        settings.own_v6
    }

    #[inline(always)]
    fn has_default_route(settings: &Settings) -> bool {
        settings.flags & Settings::DEFAULT_ROUTE_V6 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_addresses_and_the_empty_one_none() {
        let prefix = Prefix { first: V4([10, 96, 0, 0]), mask: V4([255, 240, 0, 0]) };
        assert!(prefix.holds(&V4([10, 111, 255, 255])));
        assert!(!prefix.holds(&V4([10, 112, 0, 0])));
        assert!(!Prefix::nothing().holds(&V4([0; 4])));
        assert!(!Prefix::nothing().holds(&V6([0; 16])));
        assert!(
            Prefix::everything().holds(&V4([0; 4])) && Prefix::everything().holds(&V6([1; 16]))
        );
    }
}
