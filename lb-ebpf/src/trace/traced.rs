//! A world around a world.

use bytemuck::Zeroable;
use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::Ticks;
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::snat::Rows;
use lb_common::source_range::SourceRange;

use super::step::{Step, Tracer};
use crate::packet::{Packet, WriteError};
use crate::world::{
    AcceptedLink, AffinityTable, FibResult, Fragments, Host, Link, NextHop, RateLimit, Tables, Use,
};

/// Whether there is a row, and the row, all zero where there is none: the verifier must not see a value
/// that nobody wrote, and the compiler leaves that of `None` unwritten.
#[inline(always)]
fn split<T: Zeroable>(row: Option<T>) -> (bool, T) {
    match row {
        Some(row) => (true, row),
        None => (false, T::zeroed()),
    }
}

/// A world whose every answer a tracer sees.
#[derive(Clone, Copy, Debug)]
pub struct Traced<'a, W, T> {
    /// The world that answers.
    pub world: &'a W,
    /// What sees the answers. By value: a pointer more would not fit on the stack of a program that logs.
    pub tracer: T,
}

impl<A: Address, W: Tables<A>, T: Tracer<A>> Tables<A> for Traced<'_, W, T> {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        let (found, row) = split(self.world.frontend(frontend));
        self.tracer.step(Step::Frontend(frontend, found.then_some(&row)));
        found.then_some(row)
    }

    #[inline(always)]
    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        let (found, policy) = split(self.world.ip_policy(address));
        self.tracer.step(Step::IpPolicy(address, found.then_some(policy)));
        found.then_some(policy)
    }

    #[inline(always)]
    fn in_service_ranges(&self, address: &A) -> bool {
        let is_in = self.world.in_service_ranges(address);
        self.tracer.step(Step::InServiceRanges(address, is_in));
        is_in
    }

    #[inline(always)]
    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        let allowed = self.world.source_allowed(source);
        self.tracer.step(Step::SourceAllowed(source, allowed));
        allowed
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<BackendId> {
        let (found, id) = split(Tables::<A>::slot(self.world, index));
        self.tracer.step(Step::Slot(index, found.then_some(id)));
        found.then_some(id)
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        let (found, row) = match Tables::<A>::backend(self.world, id) {
            Some(row) => (true, row),
            None => (false, Backend::empty()),
        };
        self.tracer.step(Step::Backend(id, found.then_some(&row)));
        found.then_some(row)
    }

    #[inline(always)]
    fn filter_matches(&self, position: Position) -> bool {
        let matches = Tables::<A>::filter_matches(self.world, position);
        self.tracer.step(Step::Filter(position, matches));
        matches
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        let settings = Tables::<A>::settings(self.world);
        self.tracer.step(Step::Settings(&settings));
        settings
    }

    #[inline(always)]
    fn snat_tier(&self, index: usize) -> Rows {
        Tables::<A>::snat_tier(self.world, index)
    }
}

impl<A: Address, W: AffinityTable<A>, T: Tracer<A>> AffinityTable<A> for Traced<'_, W, T> {
    #[inline(always)]
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        let (found, affinity) = split(self.world.affinity(client));
        self.tracer.step(Step::Affinity(client, found.then_some(&affinity)));
        found.then_some(affinity)
    }

    #[inline(always)]
    fn set_affinity(&self, client: &Client<A>, affinity: &Affinity, overwrite: bool) -> bool {
        let is_set = self.world.set_affinity(client, affinity, overwrite);
        self.tracer.step(Step::SetAffinity(client, affinity, is_set));
        is_set
    }
}

impl<A: Address, W: Fragments<A>, T: Tracer<A>> Fragments<A> for Traced<'_, W, T> {
    #[inline(always)]
    fn lookup_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        let found = self.world.lookup_fragment(packet, first);
        self.tracer.step(Step::Fragment(packet, found));
        found
    }

    #[inline(always)]
    fn set_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        self.world.set_fragment(packet, first);
    }

    #[inline(always)]
    fn remove_fragment(&self, packet: &Fragmented<A>) {
        self.world.remove_fragment(packet);
    }

    #[inline(always)]
    fn enqueue<P: Packet + ?Sized>(&self, fragment: &QueuedFragment<A>, frame: &mut P) -> bool {
        self.world.enqueue(fragment, frame)
    }

    #[inline(always)]
    fn release<P: Packet + ?Sized>(
        &self,
        fragment: &mut QueuedFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), WriteError> {
        self.world.release(fragment, count, frame)
    }
}

impl<A: Address, W: Host<A>, T: Tracer<A>> Host<A> for Traced<'_, W, T> {
    #[inline(always)]
    fn is_for_this_node<P: Packet + ?Sized>(
        &self,
        frame: &mut P,
        accepted: &mut AcceptedLink,
    ) -> bool {
        self.world.is_for_this_node(frame, accepted)
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        self.world.now()
    }

    #[inline(always)]
    fn hands_over(&self) -> bool {
        self.world.hands_over()
    }

    #[inline(always)]
    fn fib_lookup(&self, source: &A, destination: &A, purpose: Use) -> FibResult {
        // As in `split`: all values are written, whatever the result is.
        let (mut next_hop, mut link) = (NextHop { device: 0, mtu: 0, link: None }, Link([0; 3]));
        let (mut found, mut has_link, mut left_to_tc) = (false, false, false);
        match self.world.fib_lookup(source, destination, purpose) {
            FibResult::Found(NextHop { device, mtu, link: known }) => {
                (found, next_hop.device, next_hop.mtu) = (true, device, mtu);
                if let Some(known) = known {
                    (has_link, link) = (true, known);
                }
            }
            FibResult::LeftToTc => left_to_tc = true,
            FibResult::Unreachable => {}
        }
        next_hop.link = has_link.then_some(link);
        let result = match (found, left_to_tc) {
            (true, _) => FibResult::Found(next_hop),
            (false, true) => FibResult::LeftToTc,
            (false, false) => FibResult::Unreachable,
        };
        self.tracer.step(Step::Fib(destination, result));
        result
    }

    #[inline(always)]
    fn source_address(&self, source: &A, destination: &A, device: u32, own: &mut A) {
        self.world.source_address(source, destination, device, own);
        self.tracer.step(Step::SourceAddress(device, own));
    }

    #[inline(always)]
    fn is_own_packet(&self) -> bool {
        self.world.is_own_packet()
    }

    #[inline(always)]
    fn is_at(&self, device: u32) -> bool {
        self.world.is_at(device)
    }

    #[inline(always)]
    fn own_address(&self) -> A {
        self.world.own_address()
    }

    #[inline(always)]
    fn allow(&self, limit: RateLimit) -> bool {
        let allowed = self.world.allow(limit);
        self.tracer.step(Step::<A>::RateLimit(limit, allowed));
        allowed
    }

    #[inline(always)]
    fn socket_exists(&self, tuple: &Tuple<A>) -> bool {
        let exists = self.world.socket_exists(tuple);
        self.tracer.step(Step::SocketExists(tuple, exists));
        exists
    }
}
