//! Flows, which programs begin, change and end meanwhile. They look for an entry in the old tables, then in the new ones,
//! and begin flows in the new ones alone by now. So an entry is inserted there before it is removed here.

use std::convert::Infallible;

use lb_common::address::{Tuple, V4, V6};
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{NotInserted, Removed, Stored, WhenFull};
use lb_common::maps::{self, PerFamily};

use crate::maps::conntrack_gc::now;
use crate::maps::error::MapError;
use crate::maps::flow_table::FlowTable;
use crate::pins::Pins;

/// What was moved.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// Entries that are in the new tables now; a flow has two.
    pub entries: u64,
    /// Entries that found no place there.
    pub without_place: u64,
}

/// Whether the established flows of `from` fit into the tables of `to`. Half-open ones evict each other.
///
/// # Errors
/// [`MapError::Full`] if they do not; or a table could not be opened.
pub fn check_room(from: &Pins, to: &Pins) -> Result<(), MapError> {
    room::<V4>(from, to)?;
    room::<V6>(from, to)
}

fn room<A: Stored>(from: &Pins, to: &Pins) -> Result<(), MapError> {
    let map = maps::CONNTRACK.of(A::FAMILY);
    let from = FlowTable::<A>::open(from, map)?;
    let (_, capacity) = FlowTable::<A>::open(to, map)?.capacity();
    let mut entries = 0;
    let Ok(()) = from.for_each::<Infallible>(now, |_, _| {
        entries += 1;
        Ok(())
    });
    if entries > capacity {
        return Err(MapError::new(map, "resize", std::io::Error::from_raw_os_error(libc::E2BIG)));
    }
    Ok(())
}

/// Moves every entry of the tables of `from` to those of `to`, of which each `is_resized` or the same map.
///
/// # Errors
/// A table could not be opened.
pub fn move_flows(
    from: &Pins,
    to: &Pins,
    is_resized: impl Fn(&maps::Map) -> bool,
) -> Result<Moved, MapError> {
    let mut moved = Moved::default();
    // A flow that is established meanwhile is found in the table that comes later.
    for (tables, when_full) in
        [(&maps::HALF_OPEN, WhenFull::Evict), (&maps::CONNTRACK, WhenFull::Refuse)]
    {
        if is_resized(&tables.v4) {
            move_family::<V4>(from, to, tables, when_full, &mut moved)?;
            move_family::<V6>(from, to, tables, when_full, &mut moved)?;
        }
    }
    Ok(moved)
}

fn move_family<A: Stored>(
    from: &Pins,
    to: &Pins,
    tables: &'static PerFamily,
    when_full: WhenFull,
    moved: &mut Moved,
) -> Result<(), MapError> {
    let from = FlowTable::<A>::open(from, tables.of(A::FAMILY))?;
    let to = FlowTable::<A>::open(to, tables.of(A::FAMILY))?;
    let Ok(()) = from.for_each::<Infallible>(now, |tuple, entry| {
        if move_entry(&from, &to, &tuple, entry, when_full) {
            moved.entries += 1;
        } else {
            moved.without_place += 1;
        }
        Ok(())
    });
    Ok(())
}

/// Moves an entry; returns whether there was a place for it.
fn move_entry<A: Stored>(
    from: &FlowTable<A>,
    to: &FlowTable<A>,
    tuple: &Tuple<A>,
    mut entry: ConntrackEntry<A>,
    when_full: WhenFull,
) -> bool {
    match to.insert(tuple, &entry, when_full) {
        // It is there if an agent was stopped between these two steps.
        Ok(()) | Err(NotInserted::Exists) => {}
        Err(NotInserted::Full) => return false,
    }
    loop {
        match from.remove(tuple, now(), &entry) {
            Removed::Now => return true,
            Removed::Before => {
                // A program has ended the flow after it was read.
                to.remove(tuple, now(), &entry);
                return true;
            }
            // A program that had found it here has changed it.
            Removed::Not => {
                if let Some(changed) = from.find(tuple, now()) {
                    to.change(tuple, &entry, &changed);
                    entry = changed;
                }
            }
        }
    }
}
