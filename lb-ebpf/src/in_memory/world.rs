//! The traits of [`crate::world`] over memory.

use lb_common::address::Tuple;
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::Ticks;
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::snat::Rows;
use lb_common::source_range::SourceRange;

use super::{Backing, FamilyState, InMemory, World};
use crate::packet::{MAX_QUEUED_FRAME, Packet, WriteError};
use crate::world::{
    AcceptedLink, AffinityTable, FibResult, Fragments, Host, Link, NextHop, RateLimit, Table,
    Tables, Use,
};

impl<T, B> World<T, B> {
    /// The family's state, which knows of `tuple` what stands behind it.
    pub(super) fn with_entry<A: InMemory>(&self, table: Table, tuple: &Tuple<A>) -> &FamilyState<A>
    where
        B: Backing<A>,
    {
        let state = A::of(self);
        if state.asked_entries.borrow_mut().insert((table, *tuple))
            && let Some(entry) = self.backing.entry(table, tuple)
        {
            state.table(table).borrow_mut().entry(*tuple).or_insert(entry);
        }
        state
    }

    /// The family's state, which knows of `client` what stands behind it.
    fn with_client<A: InMemory>(&self, client: &Client<A>) -> &FamilyState<A>
    where
        B: Backing<A>,
    {
        let state = A::of(self);
        if state.asked_clients.borrow_mut().insert(*client)
            && let Some(affinity) = self.backing.affinity(client)
        {
            state.affinity.borrow_mut().entry(*client).or_insert(affinity);
        }
        state
    }
}

impl<A: InMemory, T: Tables<A>, B> Tables<A> for World<T, B> {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.tables.frontend(frontend)
    }

    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        self.tables.ip_policy(address)
    }

    fn in_service_ranges(&self, address: &A) -> bool {
        self.tables.in_service_ranges(address)
    }

    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        self.tables.source_allowed(source)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        Tables::<A>::slot(&self.tables, index)
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.tables.backend(id)
    }

    fn filter_matches(&self, position: Position) -> bool {
        Tables::<A>::filter_matches(&self.tables, position)
    }

    fn settings(&self) -> Settings {
        Tables::<A>::settings(&self.tables)
    }

    fn snat_tier(&self, index: usize) -> Rows {
        Tables::<A>::snat_tier(&self.tables, index)
    }
}

impl<A: InMemory, T, B: Backing<A>> AffinityTable<A> for World<T, B> {
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        self.with_client(client).affinity.borrow().get(client).copied()
    }

    fn set_affinity(&self, client: &Client<A>, affinity: &Affinity, overwrite: bool) -> bool {
        let mut clients = self.with_client(client).affinity.borrow_mut();
        if !overwrite && clients.contains_key(client) {
            return false;
        }
        clients.insert(*client, *affinity);
        true
    }
}

impl<A: InMemory, T, B> Fragments<A> for World<T, B> {
    fn lookup_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        let fragments = A::of(self).fragments.borrow();
        fragments.get(packet).map(|found| *first = *found).is_some()
    }

    fn set_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        A::of(self).fragments.borrow_mut().insert(*packet, *first);
    }

    fn remove_fragment(&self, packet: &Fragmented<A>) {
        A::of(self).fragments.borrow_mut().remove(packet);
    }

    fn enqueue<P: Packet + ?Sized>(&self, fragment: &QueuedFragment<A>, frame: &mut P) -> bool {
        let length = frame.length();
        let bytes = (0..length as usize).map(|at| frame.header::<1>(at).map(|byte| byte[0]));
        let Some(bytes) = bytes.collect::<Option<Vec<u8>>>() else { return false };
        let fits = length <= MAX_QUEUED_FRAME;
        if fits {
            A::of(self).queued.borrow_mut().insert(*fragment, bytes);
        }
        fits
    }

    fn release<P: Packet + ?Sized>(
        &self,
        fragment: &mut QueuedFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), WriteError> {
        if frame.length() > MAX_QUEUED_FRAME {
            return Ok(());
        }
        for number in 0..u32::from(count.min(FirstFragment::MAX_QUEUED)) {
            fragment.number = number;
            let bytes = A::of(self).queued.borrow_mut().remove(fragment);
            self.released.borrow_mut().extend(bytes);
        }
        Ok(())
    }
}

impl<A: InMemory, T, B: Backing<A>> Host<A> for World<T, B> {
    fn is_for_this_node<P: Packet + ?Sized>(&self, frame: &mut P, _: &mut AcceptedLink) -> bool {
        let own = self.link.get();
        own == [0; 6] || frame.header::<6>(0).is_some_and(|destination| *destination == own)
    }

    fn now(&self) -> Ticks {
        self.now.get()
    }

    fn hands_over(&self) -> bool {
        self.hands_over.get()
    }

    fn fib_lookup(&self, _: &A, destination: &A, purpose: Use) -> FibResult {
        if let Some(result) = self.backing.fib_lookup(destination) {
            return result;
        }
        let state = A::of(self);
        let resolves = self.resolves.get();
        let Some(next_hop) = state.routes.get(destination) else {
            return if resolves { FibResult::Unreachable } else { FibResult::LeftToTc };
        };
        let neighbour = (next_hop.device, next_hop.link.map_or([0; 3], |Link(words)| words));
        if !purpose.sends() || state.confirmed.borrow().contains(&neighbour) {
            return FibResult::Found(*next_hop);
        }
        let is_first = state.left_to_tc.borrow_mut().insert(neighbour);
        if resolves {
            state.confirmed.borrow_mut().insert(neighbour);
            FibResult::Found(NextHop { link: None, ..*next_hop })
        } else if is_first {
            FibResult::LeftToTc
        } else {
            FibResult::Found(*next_hop)
        }
    }

    fn source_address(&self, _: &A, destination: &A, device: u32, own: &mut A) {
        let to_there = self.backing.source_address(destination);
        *own = to_there.unwrap_or_else(|| device_address(self, device));
    }

    fn is_own_packet(&self) -> bool {
        self.is_own_packet.get()
    }

    /// A walk at no device is wherever it is asked about: `weir explain` says nothing of a second uplink.
    fn is_at(&self, device: u32) -> bool {
        [0, device].contains(&self.device.get())
    }

    fn own_address(&self) -> A {
        device_address(self, self.device.get())
    }

    fn allow(&self, limit: RateLimit) -> bool {
        let mut allowed = self.allowed.borrow_mut();
        let Some(left) = allowed.get_mut(&limit) else { return true };
        let is_allowed = *left > 0;
        *left = left.saturating_sub(1);
        is_allowed
    }

    fn socket_exists(&self, tuple: &Tuple<A>) -> bool {
        A::of(self).sockets.contains(tuple)
    }
}

/// The address of a device; unspecified if it has none of this family.
fn device_address<A: InMemory, T, B: Backing<A>>(world: &World<T, B>, device: u32) -> A {
    let known = || A::of(world).device_addresses.get(&device).copied();
    world.backing.device_address(device).or_else(known).unwrap_or(A::zeroed())
}
