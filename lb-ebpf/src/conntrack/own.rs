//! Flows of the node's own, by UDP, from an address and port that a frontend has: a socket of the node has
//! that port, or netfilter masquerades a pod with it. Their replies arrive like packets of a client to
//! that frontend. So the first packet that leaves makes an entry for them, by which they pass.

use lb_common::address::Address;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;

use crate::ip_policy::is_own;
use crate::packet_state::PacketState;
use crate::world::{Table, World};

/// Notes a UDP packet that leaves and is of no translated flow, if it comes from an address of this node
/// and a port that a frontend has. Of TCP and SCTP nothing need be noted: their packets say whether they
/// begin a connection. Returns the packet's outcome. A function of its own in the kernel, for the stack.
#[inline(never)]
pub(super) fn note<A: Address, W: World<A>>(state: &mut PacketState<A>, world: &W) -> Outcome {
    let passed = Outcome::PassedNotAService;
    let tuple = &state.headers.tuple;
    // The scratch still has what the walk before on this CPU made of its packet. If that is this packet,
    // it is a reply that leaves at once, or passes a second device on its way out.
    if state.entry.rewritten == *tuple {
        return passed;
    }
    state.reply_tuple.set_reversed(tuple);
    if world.lookup_and_touch(
        Table::HalfOpen,
        &state.reply_tuple,
        &state.headers.proof,
        &mut state.reply_entry,
    ) {
        return passed;
    }
    state.frontend = Frontend::new(tuple.source, tuple.source_port, tuple.protocol);
    // A socket that listens at a frontend answers flows that have begun at it, and need no entry.
    if world.frontend(&state.frontend).is_none_or(|row| row.serves_sockets_first())
        || !is_own(world, &state.frontend.address)
        || world.lookup(Table::Established, &state.reply_tuple, &mut state.reply_entry)
    {
        return passed;
    }
    state.reply_entry = ConntrackEntry {
        rewritten: state.reply_tuple,
        last_seen: world.now(),
        state: State::ESTABLISHED,
        flags: ConntrackEntry::<A>::REPLY | ConntrackEntry::<A>::AT_EGRESS,
        ..ConntrackEntry::empty()
    };
    // If another CPU was first, it is there; if the table has no room, the next packet tries again.
    let _there = world.insert(Table::HalfOpen, &state.reply_tuple, &state.reply_entry);
    passed
}

/// Whether the packet's entry was made by [`note`]: it rewrites nothing, and is no direct flow's.
#[inline(always)]
pub(super) fn is_noted<A: Address>(state: &PacketState<A>) -> bool {
    !state.entry.is_direct() && state.entry.rewritten == state.headers.tuple
}
