//! The conntrack tables of the loaded programs.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use lb_common::address::{Port, Protocol, Tuple};
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{NotInserted, Stored, WhenFull};
use lb_common::maps;
use lb_ebpf::world::Table;
use lb_userspace::maps::flow_table::FlowTable;

use super::programs::Programs;

impl Programs {
    /// A conntrack table.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn flows<A: Stored>(&self, table: Table) -> Result<FlowTable<A>> {
        let map = match table {
            Table::Established => &maps::CONNTRACK,
            Table::HalfOpen => &maps::HALF_OPEN,
        };
        Ok(FlowTable::map(self.map_fd(map.of(A::FAMILY).name)?.as_fd(), self.buckets_of(table))?)
    }

    /// Removes every entry of both conntrack tables of a family.
    ///
    /// # Errors
    /// If they cannot be mapped.
    pub fn clear_flows<A: Stored>(&self) -> Result<()> {
        for table in [Table::Established, Table::HalfOpen] {
            self.flows::<A>(table)?.clear();
        }
        Ok(())
    }

    /// Fills the table of established flows of a family with flows of no one that have such an `entry`: far more
    /// than the few that find a place.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn fill_flows<A: Stored>(&self, entry: &ConntrackEntry<A>) -> Result<()> {
        let flows = self.flows::<A>(Table::Established)?;
        for port in 1..=u16::MAX {
            let tuple = Tuple { source_port: Port::new(port), ..Tuple::empty() };
            let tuple = Tuple { protocol: Protocol::TCP, ..tuple };
            let inserted = flows.insert(&tuple, entry, WhenFull::Refuse);
            ensure!(inserted != Err(NotInserted::Exists), "port {port} is in the table twice");
        }
        Ok(())
    }

    const fn buckets_of(&self, table: Table) -> u32 {
        match table {
            Table::Established => self.buckets.conntrack,
            Table::HalfOpen => self.buckets.half_open,
        }
    }
}
