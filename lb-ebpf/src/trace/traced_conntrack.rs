//! The part of a traced world that has the conntrack tables.

use lb_common::address::{Address, Tuple};
use lb_common::backend::BackendId;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::snat::Rows;

use super::step::{Step, Tracer};
use super::traced::Traced;
use crate::wire::Proof;
use crate::world::{Conntrack, InsertError, Table};

impl<A: Address, W: Conntrack<A>, T: Tracer<A>> Conntrack<A> for Traced<'_, W, T> {
    #[inline(always)]
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool {
        let found = self.world.lookup_and_touch(table, tuple, proof, entry);
        self.tracer.step(Step::Lookup(table, tuple, found.then_some(&*entry)));
        found
    }

    #[inline(always)]
    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool {
        let found = self.world.lookup(table, tuple, entry);
        self.tracer.step(Step::Lookup(table, tuple, found.then_some(&*entry)));
        found
    }

    #[inline(always)]
    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool {
        let found = self.world.has_mapping(table, tuple, other);
        self.tracer.step(Step::HasMapping(table, tuple, other, found));
        found
    }

    #[inline(always)]
    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError> {
        let result = self.world.insert(table, tuple, entry);
        self.tracer.step(Step::Insert(table, tuple, entry, result));
        result
    }

    #[inline(always)]
    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State) {
        self.world.set_state(table, tuple, before, after);
        self.tracer.step(Step::SetState(table, tuple, after));
    }

    #[inline(always)]
    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32) {
        self.world.set_expected(table, tuple, expected);
        self.tracer.step(Step::SetExpected(table, tuple, expected));
    }

    #[inline(always)]
    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        self.world.remove(table, tuple);
        self.tracer.step(Step::Remove(table, tuple));
    }

    #[inline(always)]
    fn full_rows(&self, group: u32) -> Rows {
        self.world.full_rows(group)
    }

    #[inline(always)]
    fn set_row_full(&self, group: u32, row: u32) {
        self.world.set_row_full(group, row);
    }

    #[inline(always)]
    fn port_hint_word(&self, row: u32, word: u32) -> u64 {
        self.world.port_hint_word(row, word)
    }

    #[inline(always)]
    fn set_port_hint(&self, row: u32, word: u32, bit: u64) {
        self.world.set_port_hint(row, word, bit);
    }

    #[inline(always)]
    fn count_connection(&self, backend: BackendId) {
        self.world.count_connection(backend);
    }

    #[inline(always)]
    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        self.world.count_packet(backend, reply, bytes);
    }
}
