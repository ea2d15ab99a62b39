//! Weir's chores: `cargo xtask VERB`. Each verb prints the commands it runs and, when one fails,
//! the next thing to try. What a fresh machine lacks is found or installed on the way.

mod build;
mod cargo;
mod chaos;
mod check;
mod command;
mod control_plane;
mod go;
mod kernels;
mod structure;
mod test;
mod toolchain;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::build::{Benchmark, Profile};
use crate::kernels::architecture::Architecture;
use crate::kernels::{Choice, Depth, Kernel};
use crate::test::Section;

/// Build, run, test, check and measure Weir.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the BPF object and the agent that carries it.
    Build {
        /// Leave one static binary for other machines: target/release/weir.
        #[arg(long)]
        release: bool,
        /// For machines of this kind, amd64 or arm64: target/release/weir-arm64.
        #[arg(long, requires = "release", value_name = "KIND")]
        architecture: Option<Architecture>,
    },
    /// Show Weir at work in a lab of network namespaces; with ARGS, run `weir run ARGS` on this
    /// machine instead.
    Run {
        /// In the lab, log the walks of packets: `debug` a line a walk, `trace` each step.
        #[arg(long, value_name = "LEVEL", conflicts_with = "arguments")]
        datapath_log: Option<String>,
        /// Arguments of `weir run`.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run every test, or the sections asked for. Those in a real kernel need root.
    Test {
        /// Sections to run; all of them without it.
        #[arg(long, value_enum, value_name = "SECTION,..", value_delimiter = ',')]
        only: Vec<Section>,
        /// Kernels for the section kernels, such as 6.1 (the newest of the series), 6.12.43 or
        /// arm64:6.12; those of docs/kernels.md without it.
        #[arg(long, value_name = "VERSION,..", value_delimiter = ',')]
        kernel: Vec<Kernel>,
        /// How far the section kernels goes in each.
        #[arg(long, value_enum)]
        depth: Option<Depth>,
        /// Build a fault into the programs, which each kernel of the section kernels must refuse: those
        /// before 6.12.73 and 6.17 do.
        #[arg(long, requires = "kernel")]
        fault: bool,
        /// Run tests whose name contains this.
        filter: Option<String>,
    },
    /// Let everything happen at once for some minutes while flows go on, of which none may break. Needs root.
    Chaos {
        /// How long, and what of it.
        #[command(flatten)]
        choice: chaos::Choice,
    },
    /// Check format, lints and the rules of the source tree: imports, names, sizes, documented paths.
    Check,
    /// Measure what a packet costs, what a node forwards and withstands, or what a large cluster costs the agent.
    Bench {
        /// Which of them.
        #[arg(value_enum, default_value = "packets")]
        benchmark: Benchmark,
        /// Arguments of the benchmark.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Build { release, architecture } => {
            let weir = match (release, architecture) {
                (_, Some(architecture)) => build::static_agent(architecture)?,
                (true, None) => build::agent(Profile::Release)?,
                (false, None) => build::agent(Profile::Debug)?,
            };
            eprintln!("built {}", weir.display());
            Ok(())
        }
        Verb::Run { datapath_log, arguments } if arguments.is_empty() => {
            build::demonstrate(datapath_log.as_deref())
        }
        Verb::Run { arguments, .. } => build::run_here(&arguments),
        Verb::Test { only, kernel, depth, fault, filter } => {
            let is_about_kernels = !kernel.is_empty() || depth.is_some();
            let only =
                if only.is_empty() && is_about_kernels { vec![Section::Kernels] } else { only };
            if is_about_kernels && !only.contains(&Section::Kernels) {
                bail!("--kernel and --depth are about the section kernels: add it to --only");
            }
            let alone = only == [Section::Kernels];
            let choice = Choice { kernels: kernel, depth, alone, fault, filter: filter.clone() };
            test::run(&only, &choice, filter.as_deref())
        }
        Verb::Chaos { choice } => chaos::run_for(&choice),
        Verb::Check => check::everything(),
        Verb::Bench { benchmark, arguments } => build::measure(benchmark, &arguments),
    }
}
