//! Sockets of processes: one that dials a frontend is connected to a backend instead, before there is
//! a packet, and is told the frontend wherever it asks. Its packets cost nothing after that.

use lb_common::address::{Address, Port, Protocol, Tuple};
use lb_common::backend::Backend;
use lb_common::filter;
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::{Peer, Socket};

use crate::balance::World;
use crate::choose::{self, Choice};

/// A process's call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a, A> {
    /// What it asks of its socket.
    pub dial: Dial,
    /// What it dials.
    pub frontend: &'a Frontend<A>,
    /// Whose process it is.
    pub class: SourceClass,
    /// Any number: it spreads sockets over backends.
    pub entropy: u16,
}

/// What a process asks of its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dial {
    /// connect(2): all that follows goes to one end.
    Connect,
    /// sendto(2) or sendmsg(2) on a socket that is not connected: this datagram.
    Datagram,
}

/// Room to choose a backend in. All zero will do.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Room<A> {
    tuple: Tuple<A>,
    choice: Choice<A>,
}

impl<A: Address> Room<A> {
    /// Room.
    #[must_use]
    pub fn new() -> Self {
        Self { tuple: Tuple::empty(), choice: Choice::new() }
    }
}

impl<A: Address> Default for Room<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a process that dials `end` may be dialling a frontend, or a backend as itself. Most dial
/// neither, and nothing is kept of their sockets.
#[inline(always)]
pub fn concerns<A: Address, W: World<A>>(world: &W, end: &Frontend<A>) -> bool {
    world.may_concern(filter::position(&end.address, end.port, end.protocol))
        || world.may_be_service(&end.address)
}

/// Finds the backend that is to stand for the frontend which a process dials. `room` is asked for only
/// where one has to be chosen.
///
/// # Errors
/// The outcome of a process that dials no frontend, or none that serves it.
#[inline(always)]
pub fn dial<'s, 'r, A, W>(
    socket: &'s mut Socket<A>,
    world: &W,
    call: Call<'_, A>,
    room: impl FnOnce() -> Option<&'r mut Room<A>>,
) -> Result<&'s mut Peer<A>, Outcome>
where
    A: InSettings,
    W: World<A>,
{
    let Call { dial, frontend, class, entropy } = call;
    let row = world.frontend(frontend);
    if row.is_some() && matches!(dial, Dial::Datagram) && keeps(socket, world, frontend) {
        return socket.latest(|peer| peer.frontend == *frontend).ok_or(Outcome::NoBackend);
    }
    let is_host = matches!(class, SourceClass::Host);
    let is_connected = matches!(dial, Dial::Connect);
    let is_udp = frontend.protocol == Protocol::UDP;
    let Some(row) = row else {
        // Not so for a datagram: an IPv6 socket that is connected to an IPv4 address in IPv6's clothes
        // sends each of its own as to that address (`udpv6_sendmsg`, net/ipv6/udp.c).
        if is_connected {
            socket.forget(frontend);
        }
        if !is_host {
            // A pod that answers itself sends to the Service's address, and to whom its packets know.
            return Err(Outcome::LeftToTc);
        }
        if is_connected && is_udp {
            // It sends nothing, and may only want to know which source address it would have.
            return Err(Outcome::NotAService);
        }
        let Room { choice, .. } = room().ok_or(Outcome::TableFull)?;
        return Err(choose::beside_frontends(world, choice, &frontend.address));
    };
    if !is_host && (row.affinity > 0 || row.is_restricted()) {
        // Both go by the client's address, which a pod's socket has not got yet.
        return Err(Outcome::LeftToTc);
    }
    if !is_host && is_connected && is_udp {
        // Its packets move when a backend leaves, which nobody could tell a pod's socket.
        return Err(Outcome::LeftToTc);
    }
    let Room { tuple, choice } = room().ok_or(Outcome::TableFull)?;
    let source = if is_host { A::own(&world.settings()) } else { A::zeroed() };
    let Frontend { address, port, protocol, .. } = *frontend;
    *tuple = Tuple::new(source, Port::new(entropy), address, port, protocol);
    let (id, backend) = choose::backend(world, choice, tuple, &row, class)?;
    world.count_connection(id);
    Ok(socket.remember(frontend, id, &backend))
}

/// Whether a datagram to `frontend` goes where the last one went, which serves still. That peer is then
/// the one dialled last.
#[inline(always)]
fn keeps<A: Address, W: World<A>>(
    socket: &mut Socket<A>,
    world: &W,
    frontend: &Frontend<A>,
) -> bool {
    let now = socket.dials.wrapping_add(1);
    let Some(peer) = socket.latest(|peer| peer.frontend == *frontend) else { return false };
    let serves = |row: Backend<A>| row.generation == peer.generation && row.is_serving();
    if !world.backend(peer.id).is_some_and(serves) {
        return false;
    }
    peer.dialled = now;
    socket.dials = now;
    true
}
