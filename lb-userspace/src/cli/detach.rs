//! `weir detach`: what it takes.

use super::Pins;

/// Stops translating: removes every program, link and pin of Weir's from this node.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Example:
  weir detach

Stop `weir run` first, or it puts back what was removed. Established connections through Services
break: nothing translates their packets any more. Pins of other versions of Weir go too.")]
pub struct Args {
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
}
