//! Has the agent's maps be of its layout and of the sizes that it is to have, while the programs go on.

mod resize;
mod take_over;

use lb_common::maps::Capacities;

use super::devices::Devices;
use super::error::RunError;
use crate::config::Config;
use crate::datapath::attach::Tc;
use crate::pins::Pins;

/// Changes what is pinned, if need be; returns where the agent's maps are pinned, or are to be, and their sizes.
///
/// # Errors
/// [`RunError`]; what was in the kernel before goes on.
pub async fn prepare(config: &Config, at: &Pins, tc: Tc) -> Result<(Pins, Capacities), RunError> {
    let pins = take_over::other_layouts(config, at, tc).await?;
    pins.create()?;
    let capacities = resize::in_place(config, &pins, tc).await?;
    Ok((pins, capacities))
}
