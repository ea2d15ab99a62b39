//! Socket load balancing: a socket that connects or sends to a frontend gets a backend instead, before
//! there is a packet, and sees the frontend wherever it asks for its peer. Its packets cost nothing.

use lb_common::address::{Address, Port, Protocol, Tuple};
use lb_common::backend::Backend;
use lb_common::conntrack::ConntrackEntry;
use lb_common::filter;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::{Peer, SocketRevNat};

use crate::backend_select;
use crate::ip_policy::{classify_non_service, is_own};
use crate::packet_state::Selection;
use crate::world::{Table, World};

/// A process's system call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a, A> {
    /// Which one.
    pub kind: CallKind,
    /// The address, port and protocol that it names.
    pub frontend: &'a Frontend<A>,
    /// The class of the process.
    pub class: SourceClass,
    /// The port that the socket has; 0 if it has none yet.
    pub own_port: Port,
    /// Any number: it spreads sockets over backends. Backend selection sees it as the source port.
    pub entropy: u16,
}

/// The system calls that name a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallKind {
    /// connect(2): all packets of the socket go to one backend.
    Connect,
    /// sendto(2) or sendmsg(2) on a socket that is not connected: this datagram.
    Sendmsg,
}

/// Scratch space for the selection of a backend. All zero is valid.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scratch<A> {
    tuple: Tuple<A>,
    selection: Selection<A>,
    entry: ConntrackEntry<A>,
}

impl<A: Address> Scratch<A> {
    /// Scratch space that no call has used.
    #[must_use]
    pub fn new() -> Self {
        let entry = ConntrackEntry::empty();
        Self { tuple: Tuple::empty(), selection: Selection::new(), entry }
    }
}

impl<A: Address> Default for Scratch<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `end` may be a frontend, or a backend that is addressed directly. Most calls name neither,
/// and nothing is stored for their sockets.
#[inline(always)]
pub fn may_be_service<A: Address, W: World<A>>(world: &W, end: &Frontend<A>) -> bool {
    world.filter_matches(filter::frontend(&end.address, end.port, end.protocol))
        || world.filter_matches(filter::backend(&end.address, end.port, end.protocol))
        || world.in_service_ranges(&end.address)
}

/// Selects the backend for the frontend that a call names. `scratch` is called only where one has to be
/// selected.
///
/// # Errors
/// The outcome of a call that names no frontend, or one without a backend for it.
#[inline(always)]
pub fn select<'s, 'r, A, W>(
    socket: &'s mut SocketRevNat<A>,
    world: &W,
    call: Call<'_, A>,
    scratch: impl FnOnce() -> Option<&'r mut Scratch<A>>,
) -> Result<&'s mut Peer<A>, Outcome>
where
    A: InSettings,
    W: World<A>,
{
    find_backend(socket, world, call, scratch).map_err(|outcome| or_left(world, &call, outcome))
}

/// The outcome of a call whose packets would be dropped: a process must not see an error of what is silent elsewhere, so
/// the packets themselves are left to the hook that drops them. Those of this node to one of its own addresses pass
/// none: the call fails.
#[inline(always)]
pub fn or_left<A: Address, W: World<A>>(
    world: &W,
    call: &Call<'_, A>,
    outcome: Outcome,
) -> Outcome {
    let is_dropped = matches!(outcome.disposition(), Disposition::Dropped);
    let is_host = matches!(call.class, SourceClass::Host);
    if is_dropped && !(is_host && is_own(world, &call.frontend.address)) {
        Outcome::PassedLeftToTc
    } else {
        outcome
    }
}

/// As [`select`], with the outcome that packets would have.
#[inline(always)]
fn find_backend<'s, 'r, A, W>(
    socket: &'s mut SocketRevNat<A>,
    world: &W,
    call: Call<'_, A>,
    scratch: impl FnOnce() -> Option<&'r mut Scratch<A>>,
) -> Result<&'s mut Peer<A>, Outcome>
where
    A: InSettings,
    W: World<A>,
{
    let Call { kind, frontend, class, entropy, .. } = call;
    if is_left_to_packets(world, &call) {
        return Err(Outcome::PassedLeftToTc);
    }
    let row = world.frontend(frontend);
    if row.is_some() && matches!(kind, CallKind::Sendmsg) && same_backend(socket, world, frontend) {
        return socket.latest(|peer| peer.frontend == *frontend).ok_or(Outcome::DroppedNoBackend);
    }
    let is_host = matches!(class, SourceClass::Host);
    let is_connected = matches!(kind, CallKind::Connect);
    let is_udp = frontend.protocol == Protocol::UDP;
    let Some(row) = row else {
        // Not so for a datagram: a mapped one of an IPv6 socket names its address each time (`udpv6_sendmsg`).
        if is_connected {
            socket.forget(frontend);
        }
        if !is_host {
            // A pod that is its own backend replies to the Service's address, which its packets know.
            return Err(Outcome::PassedLeftToTc);
        }
        if is_connected && is_udp {
            // It sends nothing, and may only ask for the source address that it would have.
            return Err(Outcome::PassedNotAService);
        }
        let Scratch { tuple, selection, entry } = scratch().ok_or(Outcome::DroppedConntrackFull)?;
        if !is_connected && is_reply_here(world, &call, (tuple, entry)) {
            return Err(Outcome::PassedLeftToTc);
        }
        return Err(classify_non_service(world, selection, &frontend.address));
    };
    let by_packets = row.affinity > 0 || row.is_restricted() || row.serves_sockets_first();
    if !is_host && (by_packets || is_connected && is_udp) {
        // Two depend on the client's address, which a pod's socket does not have yet, and the third on sockets of another
        // namespace than the pod's. What a connected UDP socket sends moves when a backend goes.
        return Err(Outcome::PassedLeftToTc);
    }
    let Scratch { tuple, selection, .. } = scratch().ok_or(Outcome::DroppedConntrackFull)?;
    let source = if is_host { world.node_address() } else { A::zeroed() };
    let Frontend { address, port, protocol, .. } = *frontend;
    *tuple = Tuple::new(source, Port::new(entropy), address, port, protocol);
    if row.serves_sockets_first() && world.socket_exists(tuple) {
        if is_connected {
            socket.forget(frontend);
        }
        return Err(Outcome::PassedLocalSocket);
    }
    let (id, backend) = backend_select::backend(world, selection, tuple, &row, class)?;
    world.count_connection(id);
    Ok(socket.remember(frontend, id, &backend))
}

/// Whether a datagram is a reply of a process that is a backend to another one of this node, which it knows by the
/// frontend's address.
#[inline(always)]
fn is_reply_here<A: InSettings, W: World<A>>(
    world: &W,
    call: &Call<'_, A>,
    (tuple, entry): (&mut Tuple<A>, &mut ConntrackEntry<A>),
) -> bool {
    let Frontend { address, port, protocol, .. } = *call.frontend;
    *tuple = Tuple::new(world.node_address(), call.own_port, address, port, protocol);
    world.lookup(Table::HalfOpen, tuple, entry)
        || world.lookup(Table::Established, tuple, entry)
        // Else the programs of the next release may know the flow.
        || world.hands_over()
}

/// Whether a UDP socket of this node stays connected to `call.frontend`: its packets are translated where they leave the
/// node, and follow every change of the backends. Packets to the node's own addresses do not leave it, nor do those
/// that have no route. To an address in a subnet of the node's, as load balancers' may be, they leave only if somebody
/// there answers for it; so this is for cluster IPs.
#[inline(always)]
pub fn is_left_to_packets<A: InSettings, W: World<A>>(world: &W, call: &Call<'_, A>) -> bool {
    matches!(call.class, SourceClass::Host)
        && matches!(call.kind, CallKind::Connect)
        && call.frontend.protocol == Protocol::UDP
        && world.has_default_route()
        && world.in_service_ranges(&call.frontend.address)
        && !is_own(world, &call.frontend.address)
}

/// Whether a datagram to `frontend` goes to the backend of the last one, which still serves. That peer
/// is then the one used last.
#[inline(always)]
fn same_backend<A: Address, W: World<A>>(
    socket: &mut SocketRevNat<A>,
    world: &W,
    frontend: &Frontend<A>,
) -> bool {
    let now = socket.sequence.wrapping_add(1);
    let Some(peer) = socket.latest(|peer| peer.frontend == *frontend) else { return false };
    let serves = |row: Backend<A>| row.generation == peer.generation && row.is_serving();
    if !world.backend(peer.id).is_some_and(serves) {
        return false;
    }
    peer.last_used = now;
    socket.sequence = now;
    true
}
