//! The command line: one file or folder per command, each with its `Args` and its `run`. A command parses,
//! reads and prints; it decides nothing about packets or plans.

pub mod check;
pub mod detach;
pub mod explain;
pub mod log_filter;
mod output;
pub mod pins;
pub mod run;
#[cfg(test)]
mod sample;
pub mod show;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

/// Load-balances a node's Kubernetes Services in the kernel, in place of kube-proxy.
#[derive(Parser, Debug)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Logs go to stderr; WEIR_LOG sets how much (error, warn, info, debug, trace, or \
                  module=level,..), info if unset. Each request that the API server fails is logged with \
                  info,kube_client=error.\n\
                  Exit status: 0 done, 1 failed, 2 wrong usage."
)]
pub struct Cli {
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// The command.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands; each has an arm in [`main`].
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Runs the agent: load-balances this node's Services until stopped
    Run(Box<run::Args>),
    /// Shows what the maps in the kernel hold
    Show(show::Args),
    /// Traces a packet without sending it: verdict, what decides, steps
    Explain(explain::Args),
    /// Checks whether Weir can run on this node, and what to change
    Check(check::Args),
    /// Removes every program, link and pin of Weir from this node
    Detach(detach::Args),
}

/// Does what the command line asks. Flags that do not fit together end the process, with exit status 2.
///
/// # Errors
///
/// Why it could not be done, ending with what to do.
pub fn main(cli: Cli) -> anyhow::Result<ExitCode> {
    let result = match cli.verb {
        Verb::Run(args) => run::run(*args),
        Verb::Show(args) => show::run(&args),
        Verb::Explain(args) => explain::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Detach(args) => detach::run(&args),
    };
    result.map_err(|error| match error.downcast::<clap::Error>() {
        Ok(usage) => usage.format(&mut Cli::command()).exit(),
        Err(error) => error,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }
}
