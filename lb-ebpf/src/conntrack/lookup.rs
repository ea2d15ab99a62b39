//! Finds the conntrack entry of a packet, or creates one for a new flow.

use lb_common::address::{Address, Protocol};
use lb_common::conntrack::{EXPECTED_STEP, State, Ticks};
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;

use super::establish::{self, Establish};
use super::filter::{may_be_from_backend, may_be_to_service, pass};
use super::state::{check_hook, is_stale, remove_flow, update_state};
use super::{create, direct, own};
use crate::backend_select;
use crate::hook::Hook;
use crate::ip_policy::is_own;
use crate::packet_state::{FoundIn, PacketState};
use crate::world::{Table, World};

/// Ticks after which a UDP flow whose client still sends is established.
const UDP_AGE: u32 = 3;

/// Reads the packet's entry into `state.entry`; a packet that begins a flow gets a new one. Most packets are
/// not for a Service: the filter rules them out before any lookup.
///
/// # Errors
/// The outcome of a packet that is not translated here.
#[inline(always)]
pub(crate) fn lookup_or_begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    match find_or_begin(state, world, hook) {
        Err(Outcome::PassedNotAService) => Err(pass(state, world, hook)),
        found => found,
    }
}

#[inline(always)]
fn find_or_begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    state.found_in = FoundIn::Neither;
    state.to_service = may_be_to_service(state, world, hook);
    if !state.to_service && !may_be_from_backend(state, world) {
        return Err(Outcome::PassedNotAService);
    }
    if world.lookup_and_touch(
        Table::Established,
        &state.headers.tuple,
        &state.headers.proof,
        &mut state.entry,
    ) {
        follow_established(state, world, hook)?;
    }
    if matches!(state.found_in, FoundIn::Neither) {
        lookup_miss(state, world, hook)?;
    }
    if state.changes_flow() {
        update_state(state, world);
    }
    direct::pass_unchanged(state)
}

/// Whether the packet follows the entry that was found in the table of established flows; a stale flow is
/// removed. What opens a connection from the backend's side is no packet of this one: it passes.
#[inline(always)]
fn follow_established<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<bool, Outcome> {
    leave_to_next(state, world)?;
    check_hook(state, hook)?;
    if is_stale(state, world) {
        remove_flow(state, world, Table::Established);
        return Ok(false);
    }
    if state.entry.is_reply() && state.headers.flags.opens() {
        return Err(Outcome::PassedNotAService);
    }
    state.found_in = FoundIn::Established;
    Ok(true)
}

/// A flow that is over may have given its tuple to another one, which the programs of the next release alone know: they
/// say what becomes of the packet. Of this flow they have a copy.
///
/// # Errors
/// [`Outcome::PassedHandedOver`]
#[inline(always)]
fn leave_to_next<A: Address, W: World<A>>(
    state: &PacketState<A>,
    world: &W,
) -> Result<(), Outcome> {
    if state.entry.state.is_over() && world.hands_over() {
        return Err(Outcome::PassedHandedOver);
    }
    Ok(())
}

/// Looks up the packet's established flow. Returns whether there is one; a stale one is removed.
#[inline(always)]
fn lookup_established<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<bool, Outcome> {
    if !world.lookup_and_touch(
        Table::Established,
        &state.headers.tuple,
        &state.headers.proof,
        &mut state.entry,
    ) {
        return Ok(false);
    }
    follow_established(state, world, hook)
}

/// A packet of no established flow that may be a Service's.
#[inline(always)]
fn lookup_miss<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    match half_open(state, world, hook)? {
        HalfOpen::Goes => return Ok(()),
        HalfOpen::Ends => remove_half_open(state, world),
        HalfOpen::None => {}
        HalfOpen::Advances => {
            if advance(state, world)? {
                return Ok(());
            }
            remove_half_open(state, world);
        }
    }
    if world.hands_over() {
        return Err(Outcome::PassedHandedOver);
    }
    if !state.to_service {
        return Err(Outcome::PassedNotAService);
    }
    begin(state, world, hook)?;
    create::create(state, world, hook)
}

/// What is to be done about a packet of no established flow.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum HalfOpen {
    /// It belongs to no flow.
    None,
    /// Its flow is known: established by another CPU meanwhile, or half-open, and the packet is a reply.
    Goes,
    /// Its half-open flow has ended.
    Ends,
    /// It is the client's, of a half-open flow.
    Advances,
}

/// Looks for the packet's half-open flow. Few packets come here, so this, and what follows, are functions of their own
/// in the kernel: the BPF stack holds what one of them needs only while it runs, and the path of all other packets has
/// no call in it. They return a single word, as BPF functions must.
#[inline(never)]
fn half_open<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<HalfOpen, Outcome> {
    if !world.lookup_and_touch(
        Table::HalfOpen,
        &state.headers.tuple,
        &state.headers.proof,
        &mut state.entry,
    ) {
        // Another CPU may have established it since it was looked for.
        let is_established = lookup_established(state, world, hook)?;
        return Ok(if is_established { HalfOpen::Goes } else { HalfOpen::None });
    }
    if own::is_noted(state) {
        return Err(Outcome::PassedOwnFlow);
    }
    leave_to_next(state, world)?;
    check_hook(state, hook)?;
    state.found_in = FoundIn::HalfOpen;
    Ok(if is_stale(state, world) {
        HalfOpen::Ends
    } else if state.entry.is_reply() {
        HalfOpen::Goes
    } else {
        HalfOpen::Advances
    })
}

/// Removes the packet's half-open flow.
#[inline(never)]
fn remove_half_open<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) {
    state.found_in = FoundIn::Neither;
    remove_flow(state, world, Table::HalfOpen);
}

/// A client's packet of a half-open flow. Returns whether the flow can go on; if another flow has its reply tuple, it
/// must begin again.
#[inline(never)]
fn advance<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Result<bool, Outcome> {
    if !is_confirmed(state, world.now()) {
        let restored = establish::restore_reply_entry(world, state);
        return restored.map_err(|outcome| direct::untracked(state, outcome));
    }
    match establish::establish(world, state) {
        Establish::Done => state.found_in = FoundIn::Established,
        Establish::Full => state.conntrack_full = true,
        Establish::Later => {}
        Establish::Lost => return Ok(false),
    }
    Ok(true)
}

/// Whether a client's packet shows that its half-open flow is more than one of a flood with invented
/// sources. TCP and SCTP: it knows what the backend has replied. UDP has nothing to know: the flow has
/// been there for a while, which it is not while a flood evicts what is half-open; whether the backend
/// ever replies does not matter.
#[inline(always)]
fn is_confirmed<A: Address>(state: &PacketState<A>, now: Ticks) -> bool {
    let (entry, proof) = (&state.entry, &state.headers.proof);
    if state.headers.tuple.protocol == Protocol::UDP {
        return now.since(Ticks(entry.expected)) >= UDP_AGE;
    }
    if !entry.state.has(State::REPLIED) || state.headers.flags.opens() {
        return false;
    }
    match state.headers.tuple.protocol {
        _ if entry.expected == 0 => true,
        Protocol::SCTP => proof.sequence == entry.expected,
        _ => proof.acknowledgment.wrapping_sub(entry.expected) <= EXPECTED_STEP as u32,
    }
}

/// A packet of no known flow to what may be a Service: selects the backend of a new flow.
#[inline(never)]
fn begin<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<(), Outcome> {
    let tuple = &state.headers.tuple;
    state.frontend = Frontend::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let Some(row) = world.frontend(&state.frontend) else {
        return direct::begin(state, world, hook);
    };
    if row.serves_sockets_first() && is_for_socket(state, world) {
        return Err(Outcome::PassedLocalSocket);
    }
    check_begins(state, world)?;
    (state.entry.backend, state.backend) = backend_select::backend(
        world,
        &mut state.selection,
        &state.headers.tuple,
        &row,
        hook.class,
    )?;
    Ok(())
}

/// Whether a socket of this node has the packet, or listens for it. A function of its own in the kernel: few frontends ask.
#[inline(never)]
fn is_for_socket<A: Address, W: World<A>>(state: &PacketState<A>, world: &W) -> bool {
    world.socket_exists(&state.headers.tuple)
}

/// Whether a packet to a frontend begins a flow. What cannot be the first packet of a connection does not
/// where the address is this node's own: it belongs to a connection of the node, or of a pod that netfilter
/// masquerades, whose local port is the frontend's; or the stack replies with a reset. Elsewhere it begins
/// one: the same backend as before is likely to be selected, after its entry was evicted or at another node,
/// and any other backend replies with a reset.
///
/// # Errors
/// The outcome of a packet that begins none.
#[inline(always)]
fn check_begins<A: Address, W: World<A>>(state: &PacketState<A>, world: &W) -> Result<(), Outcome> {
    let flags = state.headers.flags;
    if state.frontend.protocol == Protocol::UDP || flags.opens() {
        Ok(())
    } else if is_own(world, &state.frontend.address) {
        Err(Outcome::PassedNoFlow)
    } else if flags.only_answers() {
        Err(Outcome::DroppedNoFlow)
    } else {
        Ok(())
    }
}
