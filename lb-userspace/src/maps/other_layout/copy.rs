//! Copies what programs have written to maps of this build's layout, while programs of both releases run.

use std::io;
use std::ops::AddAssign;

use bytemuck::Pod;
use lb_common::address::{Address, Tuple, V4, V6};
use lb_common::conntrack::table::{NotInserted, Stored, WhenFull};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::fragment::{FirstFragment, Fragmented};
use lb_common::maps::{self, Map};
use lb_common::snat::PortHints;
use lb_common::socket::UdpConnected;

use super::for_each_flow;
use crate::maps::bpf_map::Table;
use crate::maps::conntrack_gc::now;
use crate::maps::contents::FilterBits;
use crate::maps::error::MapError;
use crate::maps::flow_table::FlowTable;
use crate::pins::Pins;

/// Which tables the programs go by while flows are copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InUse {
    /// The old ones, wherever these know a flow: what they say replaces what was copied before.
    Old,
    /// The new ones: what the old ones said at last is added to flows that these still have.
    New,
}

/// What was copied.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Copied {
    /// Entries; a flow has two.
    pub entries: u64,
    /// Entries that found no place.
    pub without_place: u64,
    /// Entries that this build has no room for, as a field is narrower than there.
    pub too_wide: u64,
}

impl AddAssign for Copied {
    fn add_assign(&mut self, more: Self) {
        self.entries += more.entries;
        self.without_place += more.without_place;
        self.too_wide += more.too_wide;
    }
}

/// Copies every flow of `from`, whatever its layout, to `to`; and the filter's bits that flows need.
///
/// # Errors
/// A table could not be read or opened.
pub fn copy_flows(from: &Pins, to: &Pins, in_use: InUse) -> Result<Copied, MapError> {
    let mut copying = Copying { in_use, copied: Copied::default(), bits: FilterBits::default() };
    copying.family::<V4>(from, to)?;
    copying.family::<V6>(from, to)?;
    let filter = Table::<u32, u64>::open(to, &maps::FILTER)?;
    for (word, bits) in copying.bits.to_words() {
        let missing = || MapError::new(&maps::FILTER, "read", io::ErrorKind::NotFound.into());
        let there = filter.get(&word)?.ok_or_else(missing)?;
        if there | bits != there {
            filter.set(word, there | bits)?;
        }
    }
    Ok(copying.copied)
}

struct Copying {
    in_use: InUse,
    copied: Copied,
    bits: FilterBits,
}

/// The new tables of a family.
struct Tables<A> {
    established: FlowTable<A>,
    half_open: FlowTable<A>,
}

impl Copying {
    fn family<A: Stored>(&mut self, from: &Pins, to: &Pins) -> Result<(), MapError> {
        let [established, half_open] =
            [&maps::CONNTRACK, &maps::HALF_OPEN].map(|tables| tables.of(A::FAMILY));
        let tables = Tables::<A> {
            established: FlowTable::open(to, established)?,
            half_open: FlowTable::open(to, half_open)?,
        };
        // A flow that is established meanwhile is found in the table that comes later.
        self.copied.too_wide += for_each_flow::<A>(from, half_open, |tuple, entry| {
            self.entry(&tables, &tuple, &entry, WhenFull::Evict);
        })?;
        self.copied.too_wide += for_each_flow::<A>(from, established, |tuple, entry| {
            self.entry(&tables, &tuple, &entry, WhenFull::Refuse);
        })?;
        Ok(())
    }

    fn entry<A: Stored>(
        &mut self,
        tables: &Tables<A>,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
        when_full: WhenFull,
    ) {
        self.bits.add_flow(tuple, entry);
        match self.in_use {
            InUse::New => tables.add_marks(tuple, entry),
            InUse::Old if tables.replace(tuple, entry, when_full) => self.copied.entries += 1,
            InUse::Old => self.copied.without_place += 1,
        }
    }
}

impl<A: Stored> Tables<A> {
    /// Has an entry be as it is in the old tables; returns whether there was a place for it.
    fn replace(&self, tuple: &Tuple<A>, entry: &ConntrackEntry<A>, when_full: WhenFull) -> bool {
        let table = match when_full {
            WhenFull::Evict => &self.half_open,
            WhenFull::Refuse => &self.established,
        };
        let mut inserted = table.insert(tuple, entry, when_full);
        if inserted == Err(NotInserted::Exists) {
            match table.find(tuple, now()) {
                // The new programs know better, as where an agent that was killed is continued much later.
                Some(there) if there.last_seen.since(entry.last_seen) > 0 => {}
                Some(there) if is_same_flow(&there, entry) => table.change(tuple, &there, entry),
                // The new programs have given its tuple to another flow.
                Some(_) if entry.state.is_over() => {}
                // A flow that has ended since, and another one has its tuple.
                Some(there) => {
                    table.remove(tuple, now(), &there);
                    inserted = table.insert(tuple, entry, when_full);
                }
                None => {}
            }
        }
        if when_full == WhenFull::Refuse
            && let Some(there) = self.half_open.find(tuple, now())
        {
            // It was half-open when it was copied before.
            self.half_open.remove(tuple, now(), &there);
        }
        inserted != Err(NotInserted::Full)
    }

    /// Adds the marks that programs of the old tables have set since the entry was copied. Establishing it is left to the
    /// next packet.
    fn add_marks(&self, tuple: &Tuple<A>, entry: &ConntrackEntry<A>) {
        for table in [&self.established, &self.half_open] {
            let Some(there) = table.find(tuple, now()) else { continue };
            if !is_same_flow(&there, entry) || there.last_seen.since(entry.last_seen) > 0 {
                continue;
            }
            let marks = [State::REPLIED, State::FIN_CLIENT, State::FIN_BACKEND];
            let set = marks.into_iter().filter(|mark| entry.state.has(*mark));
            let mut after = there;
            after.state = set.fold(there.state, State::with);
            let ([.., reset], [.., set_since]) = (&mut after.state.0, entry.state.0);
            if *reset == 0 {
                *reset = set_since;
            }
            table.change(tuple, &there, &after);
        }
    }
}

fn is_same_flow<A: Address>(one: &ConntrackEntry<A>, other: &ConntrackEntry<A>) -> bool {
    one.rewritten == other.rewritten
        && one.backend == other.backend
        && one.generation == other.generation
}

/// Copies the hints which source ports are in use, beside those that `to` has by then.
///
/// # Errors
/// A map could not be read or written.
pub fn copy_port_hints(from: &Pins, to: &Pins) -> Result<(), MapError> {
    let to = Table::<u32, PortHints>::open(to, &maps::PORT_HINTS)?;
    Table::<u32, PortHints>::open(from, &maps::PORT_HINTS)?.for_each(|row, hints| {
        let none = PortHints::default();
        if hints == none {
            return Ok(());
        }
        // This build may have fewer rows. A hint that is lost costs an attempt.
        let Some(there) = to.get(&row)? else { return Ok(()) };
        let mut all = there;
        all.iter_mut().zip(hints).for_each(|(all, hints)| *all |= hints);
        if all == there { Ok(()) } else { to.set(row, all) }
    })
}

/// Copies packets in fragments of which `to` does not know better.
///
/// # Errors
/// A map could not be read or written.
pub fn copy_fragments(from: &Pins, to: &Pins) -> Result<(), MapError> {
    copy_missing::<Fragmented<V4>, FirstFragment>(from, to, &maps::FRAGMENTS.v4)?;
    copy_missing::<Fragmented<V6>, FirstFragment>(from, to, &maps::FRAGMENTS.v6)
}

/// Copies the connected UDP sockets of which `to` does not know better. Nothing needs them before the programs of `from`
/// are detached from the control group, and until then they note them there alone: it is called after that.
///
/// # Errors
/// A map could not be read or written.
pub fn copy_udp_sockets(from: &Pins, to: &Pins) -> Result<(), MapError> {
    copy_missing::<u64, UdpConnected>(from, to, &maps::UDP_CONNECTED)
}

/// Checks that the connected UDP sockets of `from` can be read.
///
/// # Errors
/// They cannot.
pub fn check_udp_sockets(from: &Pins) -> Result<(), MapError> {
    Table::<u64, UdpConnected>::open(from, &maps::UDP_CONNECTED).map(drop)
}

fn copy_missing<K: Pod, V: Pod>(from: &Pins, to: &Pins, map: &'static Map) -> Result<(), MapError> {
    let to = Table::<K, V>::open(to, map)?;
    Table::<K, V>::open(from, map)?.for_each(|key, value| to.insert(key, value))
}
