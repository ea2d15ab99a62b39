//! What is remembered of a process's socket: the frontends it has dialled, and the backends that stand
//! for them. The kernel keeps it with the socket (`BPF_MAP_TYPE_SK_STORAGE`) and as long as it.

use crate::address::{Address, Port, Protocol};
use crate::backend::{Backend, BackendId};
use crate::service::Frontend;

/// Peers of one family that are remembered of a socket. Of who speaks to more frontends at a time by one
/// socket that is not connected, answers of the one dialled longest ago come as from its backend.
pub const PEERS: usize = 4;

/// A socket, in one family. An IPv6 socket may speak IPv4 too, and then has one of these for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Socket<A> {
    /// Whom it speaks to, in no order.
    pub peers: [Peer<A>; PEERS],
    /// How often it has dialled any of them: a datagram counts, so 32 bits would come round within
    /// days.
    pub dials: u64,
}

/// A frontend that was dialled, and the backend that stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Peer<A> {
    /// What the process has dialled.
    pub frontend: Frontend<A>,
    /// Where its packets go.
    pub backend: Frontend<A>,
    /// That backend's row.
    pub id: BackendId,
    /// The row's generation.
    pub generation: u32,
    /// [`Socket::dials`] when it was dialled last; 0 where there is no peer.
    pub dialled: u64,
}

impl<A: Address> Socket<A> {
    /// A socket without peers.
    #[must_use]
    pub fn new() -> Self {
        let nothing = Frontend::new(A::zeroed(), Port::new(0), Protocol(0));
        let peer = Peer {
            frontend: nothing,
            backend: nothing,
            id: BackendId(0),
            generation: 0,
            dialled: 0,
        };
        Self { peers: [peer; PEERS], dials: 0 }
    }

    /// The peer dialled last of those that `wanted` says yes to. Where several frontends lead to one
    /// backend, its answers are taken for those of the frontend dialled last.
    #[inline(always)]
    pub fn latest(&mut self, wanted: impl Fn(&Peer<A>) -> bool) -> Option<&mut Peer<A>> {
        let mut latest: Option<&mut Peer<A>> = None;
        for peer in &mut self.peers {
            let before = latest.as_ref().map_or(0, |latest| latest.dialled);
            if peer.dialled > before && wanted(peer) {
                latest = Some(peer);
            }
        }
        latest
    }

    /// Remembers that `backend` stands for `frontend`, in the place of the peer that was not dialled for
    /// the longest time. It is written field by field, because a peer put together beforehand would lie
    /// on the BPF stack, to whose words of eight bytes it does not keep.
    #[inline(always)]
    pub fn remember(
        &mut self,
        frontend: &Frontend<A>,
        id: BackendId,
        row: &Backend<A>,
    ) -> &mut Peer<A> {
        self.dials = self.dials.wrapping_add(1);
        let [first, rest @ ..] = &mut self.peers;
        let mut oldest = first;
        for peer in rest {
            if peer.dialled < oldest.dialled {
                oldest = peer;
            }
        }
        oldest.frontend = *frontend;
        oldest.backend = Frontend::new(row.address, row.port, frontend.protocol);
        oldest.id = id;
        oldest.generation = row.generation;
        oldest.dialled = self.dials;
        oldest
    }

    /// Forgets that `backend` stands for anything.
    #[inline(always)]
    pub fn forget(&mut self, backend: &Frontend<A>) {
        for peer in &mut self.peers {
            if peer.backend == *backend {
                peer.dialled = 0;
            }
        }
    }
}

impl<A: Address> Default for Socket<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a UDP socket is connected in the place of a frontend; the value of `DIALLED`, by the socket's
/// cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct Dialled {
    /// The backend's address in words ([`Address::words`]), two in each. It stands on the BPF stack,
    /// which wants words of eight bytes.
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

impl Dialled {
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

    /// An address as it stands in [`Dialled::address`].
    #[inline(always)]
    pub fn address<A: Address>(address: &A) -> [u64; 2] {
        let [a, b, c, d] = address.words();
        [u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d)]
    }
}

/// How the agent learns the cookie of its network namespace from kernels that do not tell it to
/// processes (`SO_NETNS_COOKIE`, Linux 5.14): it connects a UDP socket, and a program that stands in that
/// call, and knows the socket by its own cookie, writes the namespace's beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct NamespaceQuestion {
    /// The socket's cookie (`SO_COOKIE`), which no other socket of this machine ever has.
    pub socket: u64,
    /// Its network namespace's; 0 before it is known.
    pub namespace: u64,
}
