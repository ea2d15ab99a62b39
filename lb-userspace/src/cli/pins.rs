//! Where pins live: an argument of every command that reads or changes the kernel's maps.

use std::path::{Path, PathBuf};

use lb_common::layout;

/// Where pins live.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    /// Directory within a bpffs mount; pins live in weir/ below it
    #[arg(long, env = "WEIR_BPFFS", value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,
}

impl Pins {
    /// The directory of this build's pins, which carries the layout's version.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        pin_directory(&self.bpffs)
    }
}

/// The directory below `bpffs` that holds the pins of this build's layout.
#[must_use]
pub fn pin_directory(bpffs: &Path) -> PathBuf {
    bpffs.join("weir").join(format!("v{}", layout::VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_directory_carries_the_layout_s_version() {
        let directory = pin_directory(Path::new("/run/bpf"));
        assert_eq!(directory, Path::new(&format!("/run/bpf/weir/v{}", layout::VERSION)));
    }
}
