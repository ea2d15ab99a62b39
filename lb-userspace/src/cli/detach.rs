//! `weir detach`: removes Weir from the kernel.

use std::fmt;
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::Builder;

use super::output::print_line;
use super::pins::Pins;
use crate::agent::runtime_dir::RuntimeDir;
use crate::datapath::attach;
use crate::host::devices::Netlink;
use crate::pins::{self, is_link};

/// Removes every program, link and pin of Weir from this node. Services stop working.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(after_help = "\
Example:
  weir detach

Stop `weir run` first: detach fails while an agent runs. Established connections through
Services break, as their packets are no longer translated. Pins of other versions are removed too.")]
pub struct Args {
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
}

/// What was removed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Removed {
    links: usize,
    maps: usize,
    filters: usize,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::default() {
            return f.write_str("nothing to remove");
        }
        let Self { links, maps, filters } = self;
        write!(f, "removed {links} links and {maps} maps")?;
        if *filters > 0 {
            write!(f, ", and filters on {filters} devices")?;
        }
        Ok(())
    }
}

/// Removes every program, link and pin of Weir, of every version.
///
/// # Errors
///
/// An agent runs, or something could not be removed; the rest may be removed already.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = args.pins.directory();
    let runtime_dir = RuntimeDir::lock(&directory)?;
    let pins = pins::Pins::at(&directory);
    let _lock = if pins.exist() { Some(pins.lock()?) } else { None };
    let filters = remove_filters()?;
    let pinned = pins.remove_all()?;
    let links = pinned.iter().filter(|pin| is_link(pin)).count();
    runtime_dir.remove()?;
    let removed = Removed { links, maps: pinned.len() - links, filters };
    print_line(removed)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes the TC filters that older kernels have instead of links; returns from how many devices.
fn remove_filters() -> anyhow::Result<usize> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime that reads devices: report this")?;
    let links = runtime.block_on(async { Netlink::open()?.links().await })?;
    let mut devices = 0;
    for link in links {
        let removed = attach::remove_filters(&link.name);
        let removed = removed.with_context(|| {
            format!("cannot remove the filters of {}; `tc filter show` lists them", link.name)
        })?;
        devices += usize::from(removed);
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_what_was_removed() {
        let some = Removed { links: 4, maps: 16, filters: 0 };
        assert_eq!(some.to_string(), "removed 4 links and 16 maps");
        assert_eq!(Removed::default().to_string(), "nothing to remove");
    }
}
