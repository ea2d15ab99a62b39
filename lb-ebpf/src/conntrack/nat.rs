//! NAT of a new flow: whether its source is kept, becomes this node's address (SNAT) or the
//! frontend's (hairpin), and the source port that tells its replies from all others.

use lb_common::address::{Address, Port};
use lb_common::conntrack::ConntrackEntry;
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_common::snat;

use crate::hook::Hook;
use crate::ip_policy;
use crate::packet_state::{PacketState, PortSearch};
use crate::world::{FibResult, Table, Use, World};

/// Sets the source address of a flow's packets to its backend; returns the entry's flags.
///
/// # Errors
/// The outcome of a packet that cannot be sent to the backend from here.
#[inline(always)]
pub(super) fn set_source<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
    hook: Hook,
) -> Result<u8, Outcome> {
    if hook.is_egress() {
        return set_own_source(state, world);
    }
    let (tuple, backend) = (&state.headers.tuple, &state.backend);
    let source = &mut state.entry.rewritten.source;
    if matches!(hook.class, SourceClass::Network) && !backend.is_local() {
        // The replies of a remote backend must return through this node.
        let device = world.fib_lookup(&tuple.source, &backend.address, Use::Source);
        let device = device.next_hop()?.device;
        world.source_address(&tuple.source, &backend.address, device, source);
        return if source.is_unspecified() {
            Err(Outcome::DroppedNoSnatAddress)
        } else {
            Ok(ConntrackEntry::<A>::SNAT)
        };
    }
    if !hook.can_pass_to_stack {
        return Err(Outcome::PassedLeftToTc);
    }
    if backend.address == tuple.source {
        // To itself, the pod is the frontend's address: it is the Service's, it routes back here, and
        // no socket has it as the source of a connection to this pod.
        *source = tuple.destination;
        return Ok(ConntrackEntry::<A>::HAIRPIN);
    }
    *source = tuple.source;
    Ok(0)
}

/// The same for this node's own packets. The stack has chosen their source by the route to the frontend. What leaves for
/// another node by another device gets the address that the stack would have chosen for it, as hosts there may refuse
/// the first one by that device. A backend that is a process of this node sees the frontend's address, as a hairpin does:
/// it routes back here, and the stack takes no packet that comes in with an address of its own.
#[inline(always)]
fn set_own_source<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Result<u8, Outcome> {
    let (tuple, backend) = (&state.headers.tuple, &state.backend);
    let source = &mut state.entry.rewritten.source;
    *source = tuple.source;
    let flags = ConntrackEntry::<A>::FROM_HOST | ConntrackEntry::<A>::AT_EGRESS;
    match world.fib_lookup(&tuple.source, &backend.address, Use::OwnSource) {
        FibResult::Found(_) if backend.is_local() => Ok(flags),
        FibResult::Found(next_hop) => {
            if !world.is_at(next_hop.device) {
                world.source_address(&tuple.source, &backend.address, next_hop.device, source);
                if source.is_unspecified() {
                    *source = tuple.source;
                }
            }
            Ok(flags)
        }
        FibResult::Unreachable if backend.is_local() => {
            *source = tuple.destination;
            Ok(flags | ConntrackEntry::<A>::HAIRPIN)
        }
        result @ (FibResult::LeftToTc | FibResult::Unreachable) => result.next_hop().map(|_| flags),
    }
}

/// Whether a flow gets a source port other than its own from the start: its source becomes an address of
/// this node, from which the node's own sockets may have a connection to the same backend.
#[inline(always)]
pub(super) fn takes_port<A: Address, W: World<A>>(world: &W, state: &PacketState<A>) -> bool {
    let entry = &state.entry;
    if entry.is_from_host() && !entry.is_hairpin() {
        return entry.rewritten.source != state.headers.tuple.source;
    }
    entry.is_snat() || (entry.is_hairpin() && ip_policy::is_own(world, &entry.rewritten.source))
}

/// Begins the search for a source port of a new flow: where its hash says. The multiplication brings the
/// hash's low bits up: its high ones have selected the backend already, and all flows of a backend would
/// share a few ports.
#[inline(always)]
pub(super) fn begin_search<A: Address>(state: &mut PacketState<A>) {
    let to = &state.entry.rewritten;
    state.search = PortSearch {
        group: snat::group(&to.destination, to.destination_port, to.protocol, &to.source),
        start: hash::tuple(&state.headers.tuple).wrapping_mul(SPREAD),
        rows: snat::Rows::default(),
    };
}

/// The golden ratio, as a fraction of 2^32.
const SPREAD: u32 = 0x9e37_79b1;

/// Ports that are looked up in the conntrack tables once hints have not helped: of nine in use out of ten, one
/// that is free is missed once in thirty times.
const PROBES: u32 = 32;

/// Finds a port that nothing is known to use, of the first tier that has one; it counts as in use from now
/// on. `None` if there is none, or none in a row that was not known to be full.
///
/// A function of its own in the kernel, for the stack's and the verifier's sake; it returns one word.
#[inline(never)]
pub(super) fn port_by_hints<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Option<Port> {
    let PortSearch { group, start, .. } = state.search;
    let full = world.full_rows(group);
    let mut rows = world.snat_tier(0).without(full);
    for index in 1..snat::TIERS {
        if rows.is_empty() {
            rows = world.snat_tier(index).without(full);
        }
    }
    let row = rows.from(first_row(start))?;
    let hints = snat::hint_row(group, row);
    for step in 0..snat::WORDS {
        let word = (first_word(start) + step) % snat::WORDS;
        let free = !world.port_hint_word(hints, word);
        if free != 0 {
            let first = first_bit(start);
            let bit = (snat::lowest(free.rotate_right(first)) + first) % 64;
            world.set_port_hint(hints, word, 1 << bit);
            return Some(snat::port(row, word, bit));
        }
    }
    world.set_row_full(group, row);
    None
}

/// Finds a port of any tier that no flow has by the conntrack tables: hints that are lost, or of flows that are
/// gone, must not fail a flow. It begins at another port each second, so that a packet sent again tries others.
///
/// A function of its own, as above. What it goes by is kept in the scratch alone: in registers, the verifier
/// would tell each way through the loop from all others.
#[inline(never)]
pub(super) fn port_by_tables<A: Address, W: World<A>>(
    state: &mut PacketState<A>,
    world: &W,
) -> Option<Port> {
    let offset = world.now().0.wrapping_mul(SPREAD.wrapping_mul(2 * PROBES));
    state.search.start = state.search.start.wrapping_add(offset);
    state.search.rows = world.snat_tier(snat::TIERS - 1);
    state.reply_tuple.set_reversed(&state.entry.rewritten);
    for _ in 0..PROBES {
        state.search.start = state.search.start.wrapping_add(SPREAD);
        let at = state.search.start;
        let row = state.search.rows.from(first_row(at))?;
        state.reply_tuple.destination_port = snat::port(row, first_word(at), first_bit(at));
        if is_free(state, world) {
            return Some(state.reply_tuple.destination_port);
        }
    }
    None
}

/// Whether no flow has the reply tuple.
#[inline(always)]
fn is_free<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) -> bool {
    if world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry) {
        return state.reply_entry.state.is_over();
    }
    !world.lookup(Table::HalfOpen, &state.reply_tuple, &mut state.reply_entry)
}

/// The `number`th source port that a flow of this hash tries while none is in use, from 0 on, below 64.
#[cfg(feature = "cases")]
pub(crate) fn port_of_hash(tier: &snat::Rows, hash: u32, number: u32) -> Port {
    let start = hash.wrapping_mul(SPREAD);
    let row = tier.from(first_row(start)).unwrap_or_default();
    snat::port(row, first_word(start), (first_bit(start) + number) % 64)
}

/// The row that a search begins at.
#[inline(always)]
const fn first_row(start: u32) -> u32 {
    hash::reduce(start, snat::ROWS)
}

/// The word of a row that it begins at.
#[inline(always)]
const fn first_word(start: u32) -> u32 {
    start >> 16 & (snat::WORDS - 1)
}

/// The bit of a word that it begins at.
#[inline(always)]
const fn first_bit(start: u32) -> u32 {
    start >> 8 & 63
}

#[cfg(test)]
mod tests;
