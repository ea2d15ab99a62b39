//! Carries what maps hold over to maps of other sizes, while the programs go on. The agent alone writes what the plan
//! says, so that is copied once. The programs write flows and clients meanwhile: [`flows`], [`clients`].

mod clients;
mod flows;

use lb_common::maps;

pub use self::clients::copy_clients;
pub use self::flows::{Moved, check_room, move_flows};
use super::bpf_map::Table;
use super::contents::Contents;
use super::diff::diff;
use super::error::MapError;
use super::kernel::KernelStore;
use super::store::MapStore;
use crate::pins::Pins;

/// Where new flows go while programs work on tables of two sizes; the value of `RESIZE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewFlows {
    /// To those of the old size, as some hooks know no others yet.
    ToOld = 0,
    /// To those of the new size, as every hook knows both.
    ToNew = 1,
}

/// Where new flows go, by the map in `resized`.
///
/// # Errors
/// The map is missing, or could not be read.
pub fn new_flows(resized: &Pins) -> Result<NewFlows, MapError> {
    let stage = Table::<u32, u32>::open(resized, &maps::RESIZE)?.get(&0)?;
    Ok(if stage == Some(NewFlows::ToNew as u32) { NewFlows::ToNew } else { NewFlows::ToOld })
}

/// Has new flows go to the tables of the new size.
///
/// # Errors
/// The map is missing, or could not be written.
pub fn send_new_flows_to_new(resized: &Pins) -> Result<(), MapError> {
    Table::<u32, u32>::open(resized, &maps::RESIZE)?.set(0, NewFlows::ToNew as u32)
}

/// Copies what the agent has written, and what is counted for each backend.
///
/// # Errors
/// [`MapError::Full`] if a map of `to` does not hold it, else the kernel's error.
pub fn copy_contents(from: &Pins, to: &Pins) -> Result<(), MapError> {
    let from = KernelStore::open(from)?;
    let mut to = KernelStore::open(to)?;
    let contents = from.read()?;
    diff(&Contents::default(), &contents).iter().try_for_each(|write| to.apply(write))?;
    from.copy_traffic(&contents, &mut to)
}
