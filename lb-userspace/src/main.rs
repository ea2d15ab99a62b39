//! The binary `weir`: reads the command line, sets up the log, and returns the exit status.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use lb_userspace::cli::{self, Cli, LogFormat, log_filter};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.log_format;
    if let Err(error) = log_to_stderr(format) {
        eprintln!("weir: {error:#}");
        return ExitCode::from(2);
    }
    match cli::main(cli) {
        Ok(code) => code,
        Err(error) => {
            match format {
                LogFormat::Text => eprintln!("weir: {error:#}"),
                LogFormat::Json => tracing::error!("{error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// Logs at `info`, unless `WEIR_LOG` says otherwise.
fn log_to_stderr(format: LogFormat) -> anyhow::Result<()> {
    let filter = log_filter::by(env::var("WEIR_LOG").ok().as_deref())?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
