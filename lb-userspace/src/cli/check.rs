//! `weir check`: what it takes.

use super::Pins;
use super::show::Output;
use crate::config::DeviceNames;

/// Says whether this kernel and this node will do, and if not, what to change. Changes nothing.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Examples:
  weir check
  weir check --network-devices eth0 -o json

Exit status: 0 if `weir run` with the same flags would work, else 1.")]
pub struct Args {
    /// Devices that lead outside, as for `weir run`
    #[arg(long, value_name = "GLOB,..")]
    pub network_devices: Option<DeviceNames>,
    /// Devices that lead to pods, as for `weir run`
    #[arg(long, value_name = "GLOB,..")]
    pub pod_devices: Option<DeviceNames>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
}
