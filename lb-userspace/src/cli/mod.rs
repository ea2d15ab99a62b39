//! The command line: one file per verb, each with its `Args` and its `run`. No verb decides anything
//! about packets or plans; it parses, reads and prints.

pub mod check;
pub mod detach;
pub mod explain;
mod output;
pub mod run;
#[cfg(test)]
mod sample;
pub mod show;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use lb_common::layout;

/// Balances a node's Kubernetes Services in the kernel, in place of kube-proxy.
#[derive(Parser, Debug)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Logs go to stderr; WEIR_LOG sets how much (error, warn, info, debug, trace, or \
                  module=level,..), info if unset.\n\
                  Exit status: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs; each has an arm in [`main`].
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Balances this node's traffic until stopped
    Run(Box<run::Args>),
    /// Shows what is in the kernel
    Show(show::Args),
    /// Explains what would happen to a packet: verdict, rule, steps
    Explain(explain::Args),
    /// Checks whether Weir can run on this node, and says what to change
    Check(check::Args),
    /// Stops translating: removes every program, link and pin
    Detach(detach::Args),
}

/// Does what the command line asks.
///
/// # Errors
///
/// What kept it from being done, ending with what to do.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Show(args) => show::run(&args),
        Verb::Explain(args) => explain::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Detach(args) => detach::run(&args),
    }
}

/// Prints a verb's output. A closed pipe is no failure.
///
/// # Errors
///
/// It could not be printed.
pub fn print(text: impl std::fmt::Display) -> io::Result<()> {
    output::readable(writeln!(io::stdout(), "{text}"))
}

/// How log lines are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Where pins live: shared by every verb that touches what is in the kernel.
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_pin_directory_carries_the_layout_s_version() {
        let directory = pin_directory(Path::new("/run/bpf"));
        assert_eq!(directory, Path::new(&format!("/run/bpf/weir/v{}", layout::VERSION)));
    }
}
