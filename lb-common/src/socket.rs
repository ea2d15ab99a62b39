//! Reverse NAT of sockets: the frontends that a socket connected or sent to, and the backends that it got
//! instead. The kernel stores it with the socket (`BPF_MAP_TYPE_SK_STORAGE`) and frees it with the socket.

use crate::address::{Address, Port, Protocol};
use crate::backend::{Backend, BackendId};
use crate::service::Frontend;

/// Peers of one family that are stored with a socket. A socket that uses more frontends at once sees
/// replies of the oldest under the backend's address.
pub const PEERS: usize = 4;

/// The peers of a socket in one family: the value of `SOCK_REV_NAT_*`. An IPv6 socket may speak IPv4 too,
/// and then has one of these for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct SocketRevNat<A> {
    /// The peers, in no order.
    pub peers: [Peer<A>; PEERS],
    /// Counts every use of any of them, datagrams included: 32 bits would wrap within days.
    pub sequence: u64,
}

/// A frontend, and the backend that the socket got for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Peer<A> {
    /// The address, port and protocol that the process used.
    pub frontend: Frontend<A>,
    /// Where its packets go.
    pub backend: Frontend<A>,
    /// That backend's row.
    pub id: BackendId,
    /// The row's generation.
    pub generation: u32,
    /// [`SocketRevNat::sequence`] of its last use; 0 where there is no peer.
    pub last_used: u64,
}

impl<A: Address> SocketRevNat<A> {
    /// No peers.
    #[must_use]
    pub fn new() -> Self {
        let nothing = Frontend::new(A::zeroed(), Port::new(0), Protocol(0));
        let peer = Peer {
            frontend: nothing,
            backend: nothing,
            id: BackendId(0),
            generation: 0,
            last_used: 0,
        };
        Self { peers: [peer; PEERS], sequence: 0 }
    }

    /// The peer used last, of those that `wanted` accepts. Where several frontends lead to one backend,
    /// its datagrams count as those of the frontend used last.
    #[inline(always)]
    pub fn latest(&mut self, wanted: impl Fn(&Peer<A>) -> bool) -> Option<&mut Peer<A>> {
        let mut latest: Option<&mut Peer<A>> = None;
        for peer in &mut self.peers {
            let before = latest.as_ref().map_or(0, |latest| latest.last_used);
            if peer.last_used > before && wanted(peer) {
                latest = Some(peer);
            }
        }
        latest
    }

    /// Stores a backend for `frontend` in place of the peer that was used least recently. It is written
    /// field by field: a peer built beforehand would lie on the BPF stack, which wants words of eight
    /// bytes.
    #[inline(always)]
    pub fn remember(
        &mut self,
        frontend: &Frontend<A>,
        id: BackendId,
        row: &Backend<A>,
    ) -> &mut Peer<A> {
        self.sequence = self.sequence.wrapping_add(1);
        let [first, rest @ ..] = &mut self.peers;
        let mut oldest = first;
        for peer in rest {
            if peer.last_used < oldest.last_used {
                oldest = peer;
            }
        }
        oldest.frontend = *frontend;
        oldest.backend = Frontend::new(row.address, row.port, frontend.protocol);
        oldest.id = id;
        oldest.generation = row.generation;
        oldest.last_used = self.sequence;
        oldest
    }

    /// Removes every peer with this backend.
    #[inline(always)]
    pub fn forget(&mut self, backend: &Frontend<A>) {
        for peer in &mut self.peers {
            if peer.backend == *backend {
                peer.last_used = 0;
            }
        }
    }
}

impl<A: Address> Default for SocketRevNat<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// The backend that a UDP socket is connected to instead of a frontend; the value of `UDP_CONNECTED`, by
/// the socket's cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct UdpConnected {
    /// The backend's address in words ([`Address::words`]), two in each. It is on the BPF stack,
    /// where accesses must be aligned to eight bytes.
    pub address: [u64; 2],
    /// The backend's row.
    pub id: BackendId,
    /// The row's generation.
    pub generation: u32,
    /// The backend's port, in a word of its own for the same reason.
    pub port: u32,
    /// Always zero.
    pub zero: u32,
}

impl UdpConnected {
    /// The backend of `peer`.
    #[inline(always)]
    pub fn of<A: Address>(peer: &Peer<A>) -> Self {
        Self {
            address: Self::address(&peer.backend.address),
            id: peer.id,
            generation: peer.generation,
            port: u32::from(peer.backend.port.number()),
            zero: 0,
        }
    }

    /// An address in the form of [`UdpConnected::address`].
    #[inline(always)]
    pub fn address<A: Address>(address: &A) -> [u64; 2] {
        let [a, b, c, d] = address.words();
        [u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d)]
    }
}

/// How the agent gets the cookie of its network namespace where the kernel does not give it to
/// processes (`SO_NETNS_COOKIE`, Linux 5.14): it connects a UDP socket, and a program attached to that
/// call, which knows the socket by its own cookie, writes the namespace's beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct NamespaceQuestion {
    /// The socket's cookie (`SO_COOKIE`), which no other socket of this machine ever has.
    pub socket: u64,
    /// Its network namespace's; 0 before it is known.
    pub namespace: u64,
}
