//! The conntrack tables and what goes with them, over BPF maps.

use lb_common::address::Tuple;
use lb_common::backend::BackendId;
use lb_common::conntrack::table::read_and_touch_likely;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::snat::Rows;
use lb_ebpf::wire::Proof;
use lb_ebpf::world::{Conntrack, Host, InsertError, Table};

use super::context::{Context, increment};
use super::flow_memory::FlowMemory;
use super::flow_table::FlowTable;
use super::port_hints;

impl<A: FlowTable> Conntrack<A> for Context {
    #[inline(always)]
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool {
        let now = Host::<A>::now(self);
        let acknowledgment = match table {
            Table::Established => proof.acknowledgment,
            Table::HalfOpen => 0,
        };
        // What most packets need is in line.
        matches!(table, Table::Established)
            && read_and_touch_likely(FlowMemory::<A>::new(table), tuple, now, acknowledgment, entry)
            || A::touch(table, tuple, now, acknowledgment, entry)
    }

    #[inline(always)]
    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool {
        A::read(table, tuple, Host::<A>::now(self), entry)
    }

    #[inline(always)]
    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
        A::has_mapping(table, tuple, other)
    }

    #[inline(always)]
    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError> {
        A::insert(table, tuple, entry, self.nanoseconds())
    }

    #[inline(always)]
    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State) {
        A::set_state(table, tuple, before, after);
    }

    #[inline(always)]
    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32) {
        A::set_expected(table, tuple, expected);
    }

    #[inline(always)]
    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        A::remove(table, tuple);
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
