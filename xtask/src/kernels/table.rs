//! docs/kernels.md: which kernels were seen at work, written by the run that saw them.

use anyhow::Result;

use super::Tried;

pub fn write(_: &[Tried]) -> Result<()> {
    Ok(())
}
