//! The steps of a walk in words: a short form, and the sentence that says the same at length. The words are
//! by what a step asks: the agent's tables, conntrack, or the host.

mod conntrack;
mod host;
mod recorder;
mod tables;

use lb_common::address::Address;
use lb_ebpf::trace::{Step as Traced, Tracer};

pub use self::recorder::{Step, Steps};
use super::node::NodeView;

impl<N: NodeView> Steps<'_, N> {
    fn words<A: Address>(&self, step: Traced<'_, A>) -> Step {
        match step {
            Traced::Frontend(frontend, row) => self.frontend(frontend, row),
            Traced::IpPolicy(address, policy) => tables::ip_policy(address, policy),
            Traced::InServiceRanges(address, is_in) => tables::service_ranges(address, is_in),
            Traced::SourceAllowed(source, allowed) => self.source(source, allowed),
            Traced::Slot(index, id) => self.slot(index, id),
            Traced::Backend(id, row) => tables::backend(id, row),
            Traced::Filter(position, matches) => self.filter(position, matches),
            Traced::Settings(settings) => self.settings(A::FAMILY, settings),
            Traced::Lookup(table, tuple, entry) => self.lookup(table, tuple, entry),
            Traced::HasMapping(table, tuple, other, found) => {
                self.has_mapping(table, [tuple, &other.reversed()], found)
            }
            Traced::Insert(table, tuple, entry, result) => self.insert(table, tuple, entry, result),
            Traced::SetState(table, tuple, state) => self.set_state(table, tuple, state),
            Traced::SetExpected(table, tuple, expected) => {
                self.set_expected(table, tuple, expected)
            }
            Traced::Remove(table, tuple) => self.remove(table, tuple),
            Traced::Affinity(client, affinity) => self.affinity(client, affinity),
            Traced::SetAffinity(client, affinity, is_set) => {
                conntrack::set_affinity(client, affinity, is_set)
            }
            Traced::Fragment(packet, found) => host::fragment(packet, found),
            Traced::Fib(destination, result) => self.fib(destination, result),
            Traced::SourceAddress(device, address) => self.source_address(device, address),
            Traced::RateLimit(limit, allowed) => host::rate_limit(limit, allowed),
            Traced::SocketExists(tuple, exists) => host::socket_exists(tuple, exists),
        }
    }
}

impl<A: Address, N: NodeView> Tracer<A> for Steps<'_, N> {
    fn step(&self, step: Traced<'_, A>) {
        self.note_entry(step);
        self.push(self.words(step));
    }
}
