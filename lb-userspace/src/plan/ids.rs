//! Ids of Service ports and backends. A Service port keeps the id of its label in `SERVICES`, a backend
//! the row with its Service port, address, port and protocol; a new one gets the lowest id that is
//! unused in the maps.
//!
//! A row whose endpoint is gone is *retired*: conntrack entries may still refer to it. It is removed
//! once garbage collection finds that none does; if its endpoint returns before, the row is reused.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lb_common::address::{Address, Port, Protocol};
use lb_common::backend::{Backend, BackendId};
use lb_common::service::{ServiceId, ServiceLabel};

use crate::maps::{Contents, FamilyContents};

/// The ids of Service ports.
pub(super) struct Services {
    known: HashMap<ServiceLabel, ServiceId>,
    taken: BTreeSet<ServiceId>,
    /// Ids from here on may be free; those below are taken.
    next: u32,
    capacity: usize,
}

impl Services {
    /// The ids in `before`, for a map of `capacity` entries.
    pub(super) fn of(before: &Contents, capacity: u32) -> Self {
        let labels = before.services.iter();
        let mut taken: BTreeSet<ServiceId> = before.services.keys().copied().collect();
        // Rows have ids without a label only if another program wrote to the maps.
        taken.extend(before.v4.services());
        taken.extend(before.v6.services());
        Self {
            // If a label is there twice, the lowest id counts.
            known: labels.rev().map(|(id, label)| (*label, *id)).collect(),
            taken,
            next: 1,
            capacity: capacity as usize,
        }
    }

    /// The id of the Service port with this label; `None` if it is new and the map is full.
    pub(super) fn id(&mut self, label: &ServiceLabel) -> Option<ServiceId> {
        if let Some(id) = self.known.get(label) {
            return Some(*id);
        }
        if self.known.len() >= self.capacity {
            return None;
        }
        while self.taken.contains(&ServiceId(self.next)) {
            self.next += 1;
        }
        let id = ServiceId(self.next);
        self.taken.insert(id);
        self.known.insert(*label, id);
        Some(id)
    }
}

/// The rows of one family's backends.
pub(super) struct Backends<A> {
    known: HashMap<(ServiceId, A, Port, Protocol), BackendId>,
    rows: BTreeMap<BackendId, Backend<A>>,
    /// Ids from here on may be free; those below are taken.
    next: u32,
    capacity: u32,
    /// The highest generation in `before`.
    generation: u32,
    /// Backends that did not fit.
    refused: u32,
}

impl<A: Address> Backends<A> {
    /// The rows of `before`, none of them serving yet, for a map of `capacity` entries.
    pub(super) fn of(before: &FamilyContents<A>, capacity: u32) -> Self {
        let mut known = HashMap::with_capacity(before.backends.len());
        for (id, row) in &before.backends {
            let was = known.entry(identity(row)).or_insert(*id);
            // If an identity is there twice, the row in use counts.
            if row.is_serving() && before.backends.get(was).is_some_and(|row| !row.is_serving()) {
                *was = *id;
            }
        }
        let of_endpoints =
            Backend::<A>::SERVING | Backend::<A>::FOR_CLUSTER | Backend::<A>::FOR_LOCAL;
        let idle = |row: &Backend<A>| with_flag(*row, of_endpoints, false);
        Self {
            known,
            rows: before.backends.iter().map(|(id, row)| (*id, idle(row))).collect(),
            next: 1,
            capacity,
            generation: before.backends.values().map(|row| row.generation).max().unwrap_or(0),
            refused: 0,
        }
    }

    /// Marks the backend of `service` at `address` and `port` as serving; `None` if it is new and the
    /// map is full.
    pub(super) fn serve(
        &mut self,
        service: ServiceId,
        (address, port): (A, Port),
        protocol: Protocol,
        is_local: bool,
    ) -> Option<BackendId> {
        let id = match self.known.get(&(service, address, port, protocol)) {
            Some(id) => *id,
            None => self.add(service, (address, port), protocol)?,
        };
        let row = self.rows.get_mut(&id)?;
        *row = with_flag(*row, Backend::<A>::SERVING, true);
        *row = with_flag(*row, Backend::<A>::LOCAL, is_local);
        Some(id)
    }

    /// Makes the backend eligible for new flows under the traffic policy of `flag`.
    pub(super) fn allow(&mut self, id: BackendId, flag: u8) {
        if let Some(row) = self.rows.get_mut(&id) {
            *row = with_flag(*row, flag, true);
        }
    }

    fn add(
        &mut self,
        service: ServiceId,
        (address, port): (A, Port),
        protocol: Protocol,
    ) -> Option<BackendId> {
        while self.rows.contains_key(&BackendId(self.next)) {
            self.next += 1;
        }
        if self.next >= self.capacity {
            self.refused += 1;
            return None;
        }
        let id = BackendId(self.next);
        let row = Backend {
            address,
            port,
            protocol,
            flags: 0,
            generation: self.generation.saturating_add(1),
            service,
        };
        self.rows.insert(id, row);
        self.known.insert(identity(&row), id);
        Some(id)
    }

    /// How many entries the map would need, if it is full. Id 0 takes one.
    pub(super) fn needed(&self) -> Option<u64> {
        (self.refused > 0).then(|| self.rows.len() as u64 + u64::from(self.refused) + 1)
    }

    /// All rows but those in `free`, unless they serve again.
    pub(super) fn into_rows(self, free: &BTreeSet<BackendId>) -> BTreeMap<BackendId, Backend<A>> {
        let mut rows = self.rows;
        rows.retain(|id, row| row.is_serving() || !free.contains(id));
        rows
    }
}

fn identity<A: Copy>(row: &Backend<A>) -> (ServiceId, A, Port, Protocol) {
    (row.service, row.address, row.port, row.protocol)
}

fn with_flag<A: Copy>(row: Backend<A>, flag: u8, is_set: bool) -> Backend<A> {
    let rest = row.flags & !flag;
    let flags = if is_set { rest | flag } else { rest };
    Backend { flags, ..row }
}
