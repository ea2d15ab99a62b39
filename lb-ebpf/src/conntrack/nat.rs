//! NAT of a new flow: whether its source is kept, becomes this node's address (SNAT) or the
//! frontend's (hairpin), and the source port that tells its replies from all others.

use lb_common::address::{Address, Port, Tuple};
use lb_common::backend::Backend;
use lb_common::conntrack::ConntrackEntry;
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_common::snat;

use crate::hook::Hook;
use crate::ip_policy;
use crate::packet_state::{PacketState, PortSearch};
use crate::world::{Use, World};

/// The source address of a flow's packets to `backend`, and the entry's flags.
///
/// # Errors
/// The outcome of a packet that cannot be sent to the backend from here.
#[inline(always)]
pub(super) fn source<A: Address, W: World<A>>(
    world: &W,
    hook: Hook,
    tuple: &Tuple<A>,
    backend: &Backend<A>,
) -> Result<(A, u8), Outcome> {
    if matches!(hook.class, SourceClass::Network) && !backend.is_local() {
        // The replies of a remote backend must return through this node.
        let device = world.fib_lookup(&tuple.source, &backend.address, Use::Source);
        let device = device.next_hop()?.device;
        let own = world.device_address(device);
        return if own.is_unspecified() {
            Err(Outcome::DroppedNoSnatAddress)
        } else {
            Ok((own, ConntrackEntry::<A>::SNAT))
        };
    }
    if !hook.can_pass_to_stack {
        return Err(Outcome::PassedLeftToTc);
    }
    if backend.address == tuple.source {
        // To itself, the pod is the frontend's address: it is the Service's, it routes back here, and
        // no socket has it as the source of a connection to this pod.
        return Ok((tuple.destination, ConntrackEntry::<A>::HAIRPIN));
    }
    Ok((tuple.source, 0))
}

/// Whether a flow gets a source port other than its own from the start: its source becomes an address of
/// this node, from which the node's own sockets may have a connection to the same backend.
#[inline(always)]
pub(super) fn takes_port<A: Address, W: World<A>>(world: &W, entry: &ConntrackEntry<A>) -> bool {
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
    };
}

/// The golden ratio, as a fraction of 2^32.
const SPREAD: u32 = 0x9e37_79b1;

/// What a search finds.
pub(super) enum Found {
    /// A port that nothing is known to use; it counts as in use from now on.
    Port(Port),
    /// A row that was not known to be full: look again.
    FullRow,
    /// There are no ports at all.
    Nothing,
}

/// Finds the next port of the first tier that has one. If all are in use as far as is known, finds one all
/// the same: of flows that are over, or that the kernel evicted, hints tell only after the agent's next
/// garbage collection.
///
/// A function of its own in the kernel, for the stack's and the verifier's sake; it returns one word.
#[inline(never)]
pub(super) fn next_port<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) -> Found {
    let PortSearch { group, start } = state.search;
    let full = world.full_rows(group);
    let mut rows = world.snat_tier(0).without(full);
    for index in 1..snat::TIERS {
        if rows.is_empty() {
            rows = world.snat_tier(index).without(full);
        }
    }
    if let Some(row) = rows.from(first_row(start)) {
        return port_of_row(world, group, start, row);
    }
    // Others each second, so that a packet sent again tries others.
    let again = start.wrapping_add(world.now().0.wrapping_mul(SPREAD));
    state.search.start = again.wrapping_add(SPREAD);
    match world.snat_tier(snat::TIERS - 1).from(first_row(again)) {
        Some(row) => Found::Port(snat::port(row, first_word(again), first_bit(again))),
        None => Found::Nothing,
    }
}

/// A port of `row` that nothing is known to use.
#[inline(always)]
fn port_of_row<A: Address, W: World<A>>(world: &W, group: u32, start: u32, row: u32) -> Found {
    let hints = snat::hint_row(group, row);
    for step in 0..snat::WORDS {
        let word = (first_word(start) + step) % snat::WORDS;
        let free = !world.port_hint_word(hints, word);
        if free != 0 {
            let first = first_bit(start);
            let bit = (snat::lowest(free.rotate_right(first)) + first) % 64;
            world.set_port_hint(hints, word, 1 << bit);
            return Found::Port(snat::port(row, word, bit));
        }
    }
    world.set_row_full(group, row);
    Found::FullRow
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
