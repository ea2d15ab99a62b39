//! What the programs need to know of the node, in one row.

use crate::address::{Address, V4, V6};

/// The one row of `SETTINGS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Settings {
    /// Cookie of the network namespace whose processes are of class
    /// [`Host`](crate::service::SourceClass::Host) (`SO_NETNS_COOKIE`, Linux 5.14); 0 for none.
    pub namespace: u64,
    /// First source port for SNAT. The range lies outside the node-port range and
    /// outside `ip_local_port_range`, so it takes no tuple that a socket of this node may get.
    pub first_snat_port: u16,
    /// How many ports the range has; 0 until the agent has written the row, and then no flow whose
    /// source must be translated is begun.
    pub snat_ports: u16,
    /// Covers every IPv4 cluster IP and service CIDR: a packet to an address outside it can be of no
    /// Service unless it is to a frontend.
    pub services_v4: Prefix<V4>,
    /// The same for IPv6.
    pub services_v6: Prefix<V6>,
    /// The node's own IPv4 address: it stands for a process of this node that has not got a source
    /// address yet. Unspecified if there is none.
    pub own_v4: V4,
    /// The same for IPv6.
    pub own_v6: V6,
    /// [`Settings::PODS_SOCKETS`]
    pub flags: u32,
    /// Always zero.
    pub zero: u32,
}

impl Settings {
    /// Sockets of pods are balanced too, not only those of the node's own processes.
    pub const PODS_SOCKETS: u32 = 1;

    /// Settings of an agent that has not written any.
    #[must_use]
    pub fn nothing() -> Self {
        bytemuck::Zeroable::zeroed()
    }

    /// Whether sockets of pods are balanced.
    #[inline(always)]
    #[must_use]
    pub const fn balances_pods_sockets(&self) -> bool {
        self.flags & Self::PODS_SOCKETS != 0
    }
}

/// A range of addresses as two words to compare by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Prefix<A> {
    /// The first address.
    pub first: A,
    /// Ones where an address must be like the first. All zero for the range that holds nothing, as
    /// before the agent has written it; and for the one that holds everything, whose `first` is not
    /// zero.
    pub mask: A,
}

impl<A: Address> Prefix<A> {
    /// The range that holds nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { first: A::zeroed(), mask: A::zeroed() }
    }

    /// The range that holds every address.
    #[must_use]
    pub fn everything() -> Self {
        let mut first = A::zeroed();
        bytemuck::bytes_of_mut(&mut first).fill(0xff);
        Self { first, mask: A::zeroed() }
    }

    /// Whether the range holds `address`.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, address: &A) -> bool {
        let ([a, b], [c, d], [e, f]) = (halves(address), halves(&self.first), halves(&self.mask));
        let differs = ((a ^ c) & e) | ((b ^ d) & f);
        differs == 0 && (c | d | e | f) != 0
    }
}

/// An address as two words, half as many as it is hashed in: every packet of no Service pays for each.
#[inline(always)]
fn halves<A: Address>(address: &A) -> [u64; 2] {
    let [a, b, c, d] = address.words().map(u64::from);
    [a | b << 32, c | d << 32]
}

/// What the settings say of an address's own family.
pub trait InSettings: Address {
    /// The range that covers this family's cluster IPs and service CIDRs.
    fn of_services(settings: &Settings) -> &Prefix<Self>;
    /// The node's own address.
    fn own(settings: &Settings) -> Self;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_and_the_empty_one_none() {
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
