//! What is remembered of a process's socket: the frontends it has dialled, and the backends that stand
//! for them. The kernel keeps it with the socket (`BPF_MAP_TYPE_SK_STORAGE`) and as long as it.

use crate::address::{Address, Port, Protocol};
use crate::backend::{Backend, BackendId};
use crate::service::Frontend;

/// Peers of one family that are remembered of a socket. Who speaks to more frontends at a time by one
/// socket that is not connected has the first one's answers come as from its backend.
pub const PEERS: usize = 4;

/// A socket, in one family. An IPv6 socket may speak IPv4 too, and then has one of these for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Socket<A> {
    /// The latest peers, in no order.
    pub peers: [Peer<A>; PEERS],
    /// How many there have been: the next one stands at this place, counted round.
    pub count: u32,
    /// Always zero.
    pub zero: u32,
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
    /// The row's generation; 0 where there is no peer.
    pub generation: u32,
}

impl<A: Address> Socket<A> {
    /// A socket without peers.
    #[must_use]
    pub fn new() -> Self {
        let nothing = Frontend::new(A::zeroed(), Port::new(0), Protocol(0));
        let peer = Peer { frontend: nothing, backend: nothing, id: BackendId(0), generation: 0 };
        Self { peers: [peer; PEERS], count: 0, zero: 0 }
    }

    /// The frontend that the process has dialled in the place of `backend`, if it has.
    #[inline(always)]
    pub fn frontend(&self, backend: &Frontend<A>) -> Option<&Frontend<A>> {
        let peer = self.peers.get(self.latest(|peer| peer.backend == *backend)?)?;
        Some(&peer.frontend)
    }

    /// The place of the peer remembered last of those that `wanted` says yes to.
    #[inline(always)]
    pub fn latest(&self, wanted: impl Fn(&Peer<A>) -> bool) -> Option<usize> {
        let count = self.count as usize;
        let mut places = (1..=PEERS).map(|age| count.wrapping_sub(age) % PEERS);
        places.find(|place| {
            let peer = self.peers.get(*place);
            peer.is_some_and(|peer| peer.generation != 0 && wanted(peer))
        })
    }

    /// Remembers that `backend` stands for `frontend`; returns the peer's place. It is written field by
    /// field, because one put together beforehand would lie on the BPF stack, to whose words of eight
    /// bytes it does not keep.
    #[inline(always)]
    pub fn remember(&mut self, frontend: &Frontend<A>, id: BackendId, row: &Backend<A>) -> usize {
        let place = self.count as usize % PEERS;
        self.count = self.count.wrapping_add(1);
        if let Some(peer) = self.peers.get_mut(place) {
            peer.frontend = *frontend;
            peer.backend = Frontend::new(row.address, row.port, frontend.protocol);
            peer.id = id;
            peer.generation = row.generation;
        }
        place
    }

    /// Forgets that `backend` stands for anything.
    #[inline(always)]
    pub fn forget(&mut self, backend: &Frontend<A>) {
        for peer in &mut self.peers {
            if peer.backend == *backend {
                peer.generation = 0;
            }
        }
    }
}

impl<A: Address> Default for Socket<A> {
    fn default() -> Self {
        Self::new()
    }
}
