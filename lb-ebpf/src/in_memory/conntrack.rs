//! The conntrack tables and what goes with them, in memory.

use lb_common::address::Tuple;
use lb_common::backend::BackendId;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::snat::{self, Rows, WORDS};

use super::{Backing, InMemory, World};
use crate::wire::Proof;
use crate::world::{Conntrack, InsertError, Table};

impl<A: InMemory, T, B: Backing<A>> Conntrack<A> for World<T, B> {
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool {
        let mut entries = self.with_entry(table, tuple).table(table).borrow_mut();
        let Some(found) = entries.get_mut(tuple) else { return false };
        let is_new_tick = found.last_seen != self.now.get();
        if table == Table::Established && found.moves_expected(proof.acknowledgment, is_new_tick) {
            found.expected = proof.acknowledgment;
        }
        found.last_seen = self.now.get();
        *entry = *found;
        true
    }

    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool {
        let entries = self.with_entry(table, tuple).table(table).borrow();
        let Some(found) = entries.get(tuple) else { return false };
        *entry = *found;
        true
    }

    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
        let entries = self.with_entry(table, tuple).table(table).borrow();
        entries.get(tuple).is_some_and(|found| found.rewritten.is_reverse_of(other))
    }

    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError> {
        let state = self.with_entry(table, tuple);
        let mut entries = state.table(table).borrow_mut();
        if entries.contains_key(tuple) {
            return Err(InsertError::Exists);
        }
        if table == Table::Established && entries.len() >= state.capacity.get() {
            return Err(InsertError::Full);
        }
        entries.insert(*tuple, *entry);
        Ok(())
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State) {
        let mut entries = self.with_entry(table, tuple).table(table).borrow_mut();
        if let Some(found) = entries.get_mut(tuple) {
            let changes = before.0.into_iter().zip(after.0);
            for (mark, (before, after)) in found.state.0.iter_mut().zip(changes) {
                if before != after {
                    *mark = after;
                }
            }
        }
    }

    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32) {
        let mut entries = self.with_entry(table, tuple).table(table).borrow_mut();
        if let Some(found) = entries.get_mut(tuple) {
            found.expected = expected;
        }
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        self.with_entry(table, tuple).table(table).borrow_mut().remove(tuple);
    }

    fn full_rows(&self, group: u32) -> Rows {
        let index = snat::group_index(group);
        self.full_rows.borrow().get(&index).copied().unwrap_or_default()
    }

    fn set_row_full(&self, group: u32, row: u32) {
        let mut groups = self.full_rows.borrow_mut();
        let rows = groups.entry(snat::group_index(group)).or_default();
        let word = if row < 64 { &mut rows.odd } else { &mut rows.even };
        *word |= 1 << (row % 64);
    }

    fn port_hint_word(&self, row: u32, word: u32) -> u64 {
        self.port_hints.borrow().get(&row).map_or(0, |words| words[(word % WORDS) as usize])
    }

    fn set_port_hint(&self, row: u32, word: u32, bit: u64) {
        self.port_hints.borrow_mut().entry(row).or_default()[(word % WORDS) as usize] |= bit;
    }

    fn count_connection(&self, backend: BackendId) {
        A::of(self).traffic.borrow_mut().entry(backend).or_default().connections += 1;
    }

    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        let mut traffic = A::of(self).traffic.borrow_mut();
        let counts = traffic.entry(backend).or_default();
        if reply {
            counts.reply_packets += 1;
            counts.reply_bytes += bytes;
        } else {
            counts.packets += 1;
            counts.bytes += bytes;
        }
    }
}
