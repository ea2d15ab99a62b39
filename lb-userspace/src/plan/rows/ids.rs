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
use crate::plan::index::FamilyIndex;

/// The ids of Service ports.
pub struct Services<'a> {
    known: HashMap<ServiceLabel, ServiceId>,
    unused: Box<dyn Iterator<Item = ServiceId> + 'a>,
    /// How many more the map can hold.
    room: usize,
}

impl<'a> Services<'a> {
    /// The ids in `before`, and those that are `unused`, of which the map has room for so many.
    pub fn of(
        before: &Contents,
        unused: impl Iterator<Item = ServiceId> + 'a,
        room: usize,
    ) -> Self {
        let labels = before.services.iter();
        // If a label is there twice, the lowest id counts.
        let known = labels.rev().map(|(id, label)| (*label, *id)).collect();
        Self { known, unused: Box::new(unused), room }
    }

    /// The id of the Service port with this label; `None` if it is new and the map is full.
    pub fn id(&mut self, label: &ServiceLabel) -> Option<ServiceId> {
        if let Some(id) = self.known.get(label) {
            return Some(*id);
        }
        self.room = self.room.checked_sub(1)?;
        let id = self.unused.next()?;
        self.known.insert(*label, id);
        Some(id)
    }
}

/// The rows of one family's backends.
pub struct Backends<'a, A> {
    known: HashMap<(ServiceId, A, Port, Protocol), BackendId>,
    rows: BTreeMap<BackendId, Backend<A>>,
    unused: Box<dyn Iterator<Item = BackendId> + 'a>,
    capacity: u32,
    /// The highest generation of all rows.
    generation: u32,
    /// Backends that did not fit.
    refused: u32,
}

impl<'a, A: Address> Backends<'a, A> {
    /// The rows of `before`, none of them serving yet, for a map of `capacity` entries. All rows are in `index`.
    pub fn of(before: &FamilyContents<A>, index: &'a FamilyIndex<A>, capacity: u32) -> Self {
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
            unused: Box::new(index.unused()),
            capacity,
            generation: index.generation(),
            refused: 0,
        }
    }

    /// Marks the backend of `service` at `address` and `port` as serving; `None` if it is new and the
    /// map is full.
    pub fn serve(
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
    pub fn allow(&mut self, id: BackendId, flag: u8) {
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
        let Some(id) = self.unused.next().filter(|id| id.0 < self.capacity) else {
            self.refused += 1;
            return None;
        };
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
    pub fn needed(&self) -> Option<u64> {
        (self.refused > 0).then(|| self.rows.len() as u64 + u64::from(self.refused) + 1)
    }

    /// All rows but those in `free`, unless they serve again.
    pub fn into_rows(self, free: &BTreeSet<BackendId>) -> BTreeMap<BackendId, Backend<A>> {
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
