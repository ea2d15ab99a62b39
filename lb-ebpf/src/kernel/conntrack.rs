//! The conntrack tables and what goes with them, over BPF maps.

use core::ptr;

use aya_ebpf::bindings::BPF_NOEXIST;
use lb_common::address::Tuple;
use lb_common::backend::BackendId;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::snat::Rows;
use lb_ebpf::wire::Proof;
use lb_ebpf::world::{Conntrack, Host, InsertError, Table};

use super::context::{Context, increment};
use super::maps::FamilyMaps;
use super::port_hints;

/// `EEXIST`, as the update helper returns it.
const EXISTS: i32 = -17;

/// Calls `$method` on the map that `$table` names.
macro_rules! on {
    ($table:expr, $method:ident($($argument:expr),*)) => {
        match $table {
            Table::Established => A::CONNTRACK.$method($($argument),*),
            Table::HalfOpen => A::HALF_OPEN.$method($($argument),*),
        }
    };
}

impl<A: FamilyMaps> Conntrack<A> for Context {
    #[inline(always)]
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool {
        let Some(found) = on!(table, get_ptr_mut(tuple)) else { return false };
        let now = Host::<A>::now(self);
        // SAFETY: the kernel keeps the element readable until the program ends. Another CPU may
        // write `last_seen`, `expected` or a byte of `state` meanwhile: each is written as a whole and
        // read as one, and any value of it is good.
        unsafe {
            let is_new_tick = (*found).last_seen != now;
            if table == Table::Established
                && (*found).moves_expected(proof.acknowledgment, is_new_tick)
            {
                (*found).expected = proof.acknowledgment;
            }
            if is_new_tick {
                (*found).last_seen = now;
            }
            ptr::copy_nonoverlapping(found, entry, 1);
        }
        true
    }

    #[inline(always)]
    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool {
        let Some(found) = on!(table, get_ptr(tuple)) else { return false };
        // SAFETY: as in `lookup_and_touch`.
        unsafe { ptr::copy_nonoverlapping(found, entry, 1) };
        true
    }

    #[inline(always)]
    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
        // SAFETY: as in `lookup_and_touch`.
        on!(table, get_ptr(tuple))
            .is_some_and(|found| unsafe { (*found).rewritten.is_reverse_of(other) })
    }

    #[inline(always)]
    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError> {
        on!(table, insert(tuple, entry, u64::from(BPF_NOEXIST))).map_err(|error| match error {
            EXISTS => InsertError::Exists,
            _ => InsertError::Full,
        })
    }

    #[inline(always)]
    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State) {
        let Some(entry) = on!(table, get_ptr_mut(tuple)) else { return };
        let ([a, b, c, d], [replied, client, backend, reset]) = (before.0, after.0);
        // SAFETY: as in `lookup_and_touch`; no byte is written but those that change.
        unsafe {
            if a != replied {
                (*entry).state.0[0] = replied;
            }
            if b != client {
                (*entry).state.0[1] = client;
            }
            if c != backend {
                (*entry).state.0[2] = backend;
            }
            if d != reset {
                (*entry).state.0[3] = reset;
            }
        }
    }

    #[inline(always)]
    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32) {
        if let Some(entry) = on!(table, get_ptr_mut(tuple)) {
            // SAFETY: as in `lookup_and_touch`.
            unsafe { (*entry).expected = expected };
        }
    }

    #[inline(always)]
    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        // It may be gone already: then there is nothing to do.
        let _gone = on!(table, remove(tuple));
    }

    #[inline(always)]
    fn full_rows(&self, group: u32) -> Rows {
        port_hints::full_rows(group)
    }

    #[inline(always)]
    fn set_row_full(&self, group: u32, row: u32) {
        port_hints::set_row_full(group, row);
    }

    #[inline(always)]
    fn port_hint_word(&self, row: u32, word: u32) -> u64 {
        port_hints::word(row, word)
    }

    #[inline(always)]
    fn set_port_hint(&self, row: u32, word: u32, bit: u64) {
        port_hints::set(row, word, bit);
    }

    #[inline(always)]
    fn count_connection(&self, backend: BackendId) {
        if let Some(traffic) = A::TRAFFIC.get_ptr_mut(backend.0) {
            // SAFETY: this CPU's own value, as in `count_call`: processes begin flows, too.
            unsafe { increment(&raw mut (*traffic).connections) };
        }
    }

    #[inline(always)]
    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        if let Some(traffic) = A::TRAFFIC.get_ptr_mut(backend.0) {
            // SAFETY: this CPU's own value, as in `count`.
            unsafe {
                if reply {
                    (*traffic).reply_packets += 1;
                    (*traffic).reply_bytes += bytes;
                } else {
                    (*traffic).packets += 1;
                    (*traffic).bytes += bytes;
                }
            }
        }
    }
}
