//! Gives maps other sizes while the programs go on, and no packet is lost:
//!
//! 1. Maps of the new sizes are made beside those in use and filled with what the agent wrote.
//! 2. Every hook gets programs that work on the conntrack tables of both sizes: they look into both, and begin flows in
//!    the old ones, as hooks that have not got them yet know no others.
//! 3. New flows go to the new tables, at once on every hook, and the entries of the old ones are moved there.
//! 4. The new maps take the place of the old ones, and the agent starts as always: it gives every hook the usual
//!    programs, on the new maps.
//!
//! An agent that is stopped before 3 leaves hooks that use the old tables: the next one drops what was made. From 3 on
//! the next one goes on with it. What fails before 3 leaves the sizes as they are.

use std::time::Instant;

use lb_common::maps::{self, Capacities};
use tracing::{info, warn};

use super::{Devices, RunError};
use crate::config::{Config, DatapathLog};
use crate::datapath::attach::Tc;
use crate::datapath::loader::Old;
use crate::host::syscall;
use crate::maps::MapError;
use crate::maps::resize::{
    Moved, NewFlows, check_room, copy_clients, copy_contents, move_flows, new_flows,
    send_new_flows_to_new,
};
use crate::pins::Pins;

/// Gives the maps that are pinned the sizes that `config` says; those of which it says nothing keep theirs. Returns
/// the sizes that they have then.
///
/// # Errors
/// What an earlier agent had begun could not be ended. That new sizes cannot be had is no error, but a warning.
pub async fn in_place(config: &Config, pins: &Pins, tc: Tc) -> Result<Capacities, RunError> {
    end_what_was_begun(pins)?;
    let Some(there) = pins.capacities(config.capacities.processors)? else {
        return Ok(config.capacities);
    };
    let wanted = config.sizes.or_keep(there, config.capacities);
    if maps::pinned().all(|map| there.entries(map) == wanted.entries(map)) {
        return Ok(wanted);
    }
    let resizing = Resizing { pins, resized: pins.resized(), there, wanted };
    match resizing.begin(config, tc).await {
        Ok(()) => {
            resizing.end()?;
            Ok(wanted)
        }
        Err(error) => {
            pins.discard_resized()?;
            warn!("maps keep the sizes they have: {error}");
            Ok(there)
        }
    }
}

/// Ends what an agent that was stopped had begun.
fn end_what_was_begun(pins: &Pins) -> Result<(), RunError> {
    let resized = pins.resized();
    if resized.map(&maps::RESIZE).exists() && new_flows(&resized)? == NewFlows::ToNew {
        // The number of processors says nothing of the tables of flows.
        let sizes = (pins.capacities(0)?, resized.capacities(0)?);
        if let (Some(there), Some(wanted)) = sizes {
            return Resizing { pins, resized, there, wanted }.end();
        }
    }
    pins.discard_resized()?;
    Ok(pins.remove_map(&maps::RESIZE)?)
}

/// Maps on their way to other sizes.
struct Resizing<'a> {
    pins: &'a Pins,
    resized: Pins,
    there: Capacities,
    wanted: Capacities,
}

impl Resizing<'_> {
    fn changes(&self, map: &maps::Map) -> bool {
        self.there.entries(map) != self.wanted.entries(map)
    }

    fn copy_clients(&self) -> Result<(), MapError> {
        if self.changes(&maps::AFFINITY.v4) {
            copy_clients(self.pins, &self.resized)?;
        }
        Ok(())
    }

    /// Steps 1 and 2, and has new flows go to the new tables.
    async fn begin(&self, config: &Config, tc: Tc) -> Result<(), RunError> {
        for (flag, there, wanted) in sizes(&self.there, &self.wanted) {
            info!("{flag}: {there} becomes {wanted}");
        }
        self.pins.create_resized()?;
        for map in maps::pinned().filter(|map| !self.changes(map)) {
            self.resized.share(map, self.pins)?;
        }
        let both =
            Config { capacities: self.wanted, datapath_log: DatapathLog::Off, ..config.clone() };
        let old = Old { pins: self.pins, capacities: &self.there };
        let mut devices = Devices::load(&both, &self.resized, Some(&old), tc).await?;
        check_room(self.pins, &self.resized)?;
        let of_agent = [maps::SERVICES, maps::FRONTENDS.v4, maps::SLOTS, maps::BACKENDS.v4];
        if of_agent.iter().any(|map| self.changes(map)) {
            copy_contents(self.pins, &self.resized)?;
        }
        self.copy_clients()?;
        devices.reconcile().await;
        if let Some(error) = devices.errors().next() {
            return Err(RunError::NotAttached(error.clone()));
        }
        Ok(send_new_flows_to_new(&self.resized)?)
    }

    /// Steps 3 and 4.
    fn end(&self) -> Result<(), RunError> {
        let started = Instant::now();
        if let Err(error) = syscall::wait_for_programs() {
            warn!("flows that begin at this very moment may be lost: membarrier(2): {error}");
        }
        let Moved { entries, without_place } =
            move_flows(self.pins, &self.resized, |map| self.changes(map))?;
        if without_place > 0 {
            warn!("{without_place} entries of flows found no place in the new tables");
        }
        self.copy_clients()?;
        self.pins.exchange()?;
        self.pins.discard_resized()?;
        self.pins.remove_map(&maps::RESIZE)?;
        info!(entries, took = ?started.elapsed(), "maps resized");
        Ok(())
    }
}

/// The flags whose values differ, with both.
fn sizes(
    there: &Capacities,
    wanted: &Capacities,
) -> impl Iterator<Item = (&'static str, u32, u32)> {
    [
        ("--conntrack-table-size", there.conntrack / 2, wanted.conntrack / 2),
        ("--frontend-table-size", there.frontends, wanted.frontends),
        ("--backend-table-size", there.backends, wanted.backends),
        ("--slot-table-size", there.slots, wanted.slots),
        ("--affinity-table-size", there.affinity, wanted.affinity),
    ]
    .into_iter()
    .filter(|(_, there, wanted)| there != wanted)
}
