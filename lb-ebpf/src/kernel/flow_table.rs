//! The operations on the conntrack tables as global functions: the verifier looks at each once, by itself, and not
//! again at every call. It knows their arguments by the object's BTF: numbers, and pointers to values of known size
//! (Linux 5.12, commit e5069b9c23b3), which may be null as far as it knows.
//!
//! While the agent resizes the tables, each finds an entry in the one of the old size or else in the one of the new size:
//! as the agent moves it, it is in the new one before it leaves the old one. The verifier leaves that out otherwise.

use lb_common::address::{Tuple, V4, V6};
use lb_common::conntrack::table;
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_ebpf::world::Table;

use super::flow_insertion::FlowInsertion;
use super::flow_memory::FlowMemory;

/// A family whose tables have functions.
pub trait FlowTable: FlowInsertion {
    /// Reads the entry of `tuple` into `entry`, and marks it as seen. `acknowledgment` is 0 if it says nothing.
    fn touch(
        table: Table,
        tuple: &Tuple<Self>,
        now: Ticks,
        acknowledgment: u32,
        entry: &mut ConntrackEntry<Self>,
    ) -> bool;
    /// Reads the entry of `tuple` into `entry`.
    fn read(
        table: Table,
        tuple: &Tuple<Self>,
        now: Ticks,
        entry: &mut ConntrackEntry<Self>,
    ) -> bool;
    /// Whether `tuple` has an entry that is the other one of `other`'s.
    fn has_mapping(table: Table, tuple: &Tuple<Self>, other: &Tuple<Self>) -> bool;
    /// Changes the marks that `before` and `after` differ in.
    fn set_state(table: Table, tuple: &Tuple<Self>, before: State, after: State);
    /// Changes what packets of `tuple` are expected to carry.
    fn set_expected(table: Table, tuple: &Tuple<Self>, expected: u32);
    /// Removes the entry of `tuple`.
    fn remove(table: Table, tuple: &Tuple<Self>);
}

/// Defines a family's global functions, and [`FlowTable`] by them.
macro_rules! functions {
    ($A:ty, $touch:ident, $read:ident, $has_mapping:ident, $set_state:ident,
     $set_expected:ident, $remove:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $touch(
            table: u32,
            tuple: *const Tuple<$A>,
            now: u32,
            acknowledgment: u32,
            entry: *mut ConntrackEntry<$A>,
        ) -> u32 {
            // SAFETY: not null, and of the walk that called, which waits for the result.
            let (Some(tuple), Some(entry)) = (unsafe { (tuple.as_ref(), entry.as_mut()) }) else {
                return 0;
            };
            let memory = FlowMemory::<$A>::of_number(table);
            u32::from(table::read_and_touch(memory, tuple, Ticks(now), acknowledgment, entry))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $read(
            table: u32,
            tuple: *const Tuple<$A>,
            now: u32,
            entry: *mut ConntrackEntry<$A>,
        ) -> u32 {
            // SAFETY: as above.
            let (Some(tuple), Some(entry)) = (unsafe { (tuple.as_ref(), entry.as_mut()) }) else {
                return 0;
            };
            u32::from(table::read(FlowMemory::<$A>::of_number(table), tuple, Ticks(now), entry))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $has_mapping(
            table: u32,
            tuple: *const Tuple<$A>,
            other: *const Tuple<$A>,
        ) -> u32 {
            // SAFETY: as above.
            let (Some(tuple), Some(other)) = (unsafe { (tuple.as_ref(), other.as_ref()) }) else {
                return 0;
            };
            u32::from(table::has_mapping(FlowMemory::<$A>::of_number(table), tuple, other))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $set_state(
            table: u32,
            tuple: *const Tuple<$A>,
            before: u32,
            after: u32,
        ) -> u32 {
            // SAFETY: as above.
            let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
            let [before, after] = [before, after].map(|marks| State(marks.to_le_bytes()));
            table::set_state(FlowMemory::<$A>::of_number(table), tuple, before, after);
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $set_expected(table: u32, tuple: *const Tuple<$A>, expected: u32) -> u32 {
            // SAFETY: as above.
            let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
            table::set_expected(FlowMemory::<$A>::of_number(table), tuple, expected);
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $remove(table: u32, tuple: *const Tuple<$A>) -> u32 {
            // SAFETY: as above.
            let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
            table::remove(FlowMemory::<$A>::of_number(table), tuple);
            0
        }

        impl FlowTable for $A {
            #[inline(always)]
            fn touch(
                table: Table,
                tuple: &Tuple<Self>,
                now: Ticks,
                acknowledgment: u32,
                entry: &mut ConntrackEntry<Self>,
            ) -> bool {
                $touch(FlowMemory::<$A>::new(table).number, tuple, now.0, acknowledgment, entry)
                    != 0
            }

            #[inline(always)]
            fn read(
                table: Table,
                tuple: &Tuple<Self>,
                now: Ticks,
                entry: &mut ConntrackEntry<Self>,
            ) -> bool {
                $read(FlowMemory::<$A>::new(table).number, tuple, now.0, entry) != 0
            }

            #[inline(always)]
            fn has_mapping(table: Table, tuple: &Tuple<Self>, other: &Tuple<Self>) -> bool {
                $has_mapping(FlowMemory::<$A>::new(table).number, tuple, other) != 0
            }

            #[inline(always)]
            fn set_state(table: Table, tuple: &Tuple<Self>, before: State, after: State) {
                $set_state(FlowMemory::<$A>::new(table).number, tuple, before.bits(), after.bits());
            }

            #[inline(always)]
            fn set_expected(table: Table, tuple: &Tuple<Self>, expected: u32) {
                $set_expected(FlowMemory::<$A>::new(table).number, tuple, expected);
            }

            #[inline(always)]
            fn remove(table: Table, tuple: &Tuple<Self>) {
                $remove(FlowMemory::<$A>::new(table).number, tuple);
            }
        }
    };
}

functions!(
    V4,
    flow_touch_v4,
    flow_read_v4,
    flow_has_mapping_v4,
    flow_set_state_v4,
    flow_set_expected_v4,
    flow_remove_v4
);
functions!(
    V6,
    flow_touch_v6,
    flow_read_v6,
    flow_has_mapping_v6,
    flow_set_state_v6,
    flow_set_expected_v6,
    flow_remove_v6
);
