//! The insertion into a conntrack table as global functions: see [`super::flow_table`].

use lb_common::address::{Tuple, V4, V6};
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{self, NotInserted, Stamp};
use lb_ebpf::world::{InsertError, Table};

use super::features;
use super::flow_memory::FlowMemory;
use super::maps::{FamilyMaps, RESIZE};

/// Inserted.
const INSERTED: u32 = 0;
/// There is such an entry.
const EXISTS: u32 = 1;
/// There is no place.
const FULL: u32 = 2;

/// While the tables are resized: a new entry goes to the one of the new size.
const NEW: u32 = 0;
/// To the one of the old size.
const OLD: u32 = 1;
/// There is such an entry in either.
const TAKEN: u32 = 2;

/// A family into whose tables a function inserts.
pub trait FlowInsertion: FamilyMaps {
    /// Inserts an entry at this time, in nanoseconds since boot.
    fn insert(
        table: Table,
        tuple: &Tuple<Self>,
        entry: &ConntrackEntry<Self>,
        nanoseconds: u64,
    ) -> Result<(), InsertError>;
}

/// Whether new flows go to the tables of the new size. Until every program knows these, they go to those of the old
/// one. Of two CPUs that begin the same flow at the moment when this changes, each may insert its entries, as they go to
/// two tables; then each packet goes to its own backend, and replies of both are translated.
#[inline(always)]
fn goes_to_new() -> bool {
    RESIZE.get(0).is_some_and(|to_new| *to_new != 0)
}

/// Defines the global function that inserts into one table: one for all would need too much of the stack.
macro_rules! of_one_table {
    ($A:ty, $insert:ident, $memory:expr, $exists:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $insert(
            tuple: *const Tuple<$A>,
            entry: *const ConntrackEntry<$A>,
            nanoseconds: u64,
        ) -> u32 {
            // Before Linux 6.8 the verifier looks at functions that nothing can call, too.
            if !$exists {
                return FULL;
            }
            // SAFETY: not null, and of the walk that called, which waits for the result.
            let (Some(tuple), Some(entry)) = (unsafe { (tuple.as_ref(), entry.as_ref()) }) else {
                return EXISTS;
            };
            let (memory, stamp): (FlowMemory<$A>, _) =
                ($memory, Stamp::from_nanoseconds(nanoseconds));
            match table::insert(memory, tuple, entry, stamp, memory.when_full()) {
                Ok(()) => INSERTED,
                Err(NotInserted::Exists) => EXISTS,
                Err(NotInserted::Full) => FULL,
            }
        }
    };
}

/// Defines a family's global functions, and [`FlowInsertion`] by them.
macro_rules! functions {
    ($A:ty, $established:ident, $half_open:ident, $old_established:ident, $old_half_open:ident, $place:ident) => {
        of_one_table!($A, $established, FlowMemory::new(Table::Established), true);
        of_one_table!($A, $half_open, FlowMemory::new(Table::HalfOpen), true);
        of_one_table!(
            $A,
            $old_established,
            FlowMemory::new_old(Table::Established),
            features::is_resizing()
        );
        of_one_table!(
            $A,
            $old_half_open,
            FlowMemory::new_old(Table::HalfOpen),
            features::is_resizing()
        );

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $place(table: u32, tuple: *const Tuple<$A>) -> u32 {
            // SAFETY: as above.
            let Some(tuple) = (unsafe { tuple.as_ref() }) else { return TAKEN };
            let memory = FlowMemory::<$A>::of_number(table);
            if !features::is_resizing() {
                return NEW;
            }
            let is_taken = table::exists(memory, tuple);
            if is_taken {
                TAKEN
            } else if goes_to_new() {
                NEW
            } else {
                OLD
            }
        }

        impl FlowInsertion for $A {
            #[inline(always)]
            fn insert(
                table: Table,
                tuple: &Tuple<Self>,
                entry: &ConntrackEntry<Self>,
                nanoseconds: u64,
            ) -> Result<(), InsertError> {
                let number = FlowMemory::<$A>::new(table).number;
                let place = if features::is_resizing() { $place(number, tuple) } else { NEW };
                let inserted = match (place, table) {
                    (NEW, Table::Established) => $established(tuple, entry, nanoseconds),
                    (NEW, Table::HalfOpen) => $half_open(tuple, entry, nanoseconds),
                    (OLD, Table::Established) => $old_established(tuple, entry, nanoseconds),
                    (OLD, Table::HalfOpen) => $old_half_open(tuple, entry, nanoseconds),
                    _ => EXISTS,
                };
                match inserted {
                    INSERTED => Ok(()),
                    EXISTS => Err(InsertError::Exists),
                    _ => Err(InsertError::Full),
                }
            }
        }
    };
}

functions!(
    V4,
    flow_insert_v4,
    half_open_insert_v4,
    old_flow_insert_v4,
    old_half_open_insert_v4,
    flow_place_v4
);
functions!(
    V6,
    flow_insert_v6,
    half_open_insert_v6,
    old_flow_insert_v6,
    old_half_open_insert_v6,
    flow_place_v6
);
