//! What a packet costs: `cargo xtask bench packets`, and `cargo xtask bench frames` (`frames.rs`).
//!
//! Programs of the real object run under `BPF_PROG_TEST_RUN` behind a wrapper that makes each packet
//! new (`lb_ebpf::bench::shared`). Every round runs every case once, in an order of its own; what a round's
//! floor cost is subtracted from that round's cases, and the rest is also printed in hash look-ups of
//! the same round, because machines are noisy and ratios travel better than nanoseconds. After every
//! sample the programs' own counters must show that each packet had the case's outcome.

mod addresses;
mod bench;
mod cases;
mod floor;
mod flow_list;
mod frames;
mod measure;
mod report;
mod subject;
mod testbed;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use lb_common::address::Protocol;
use weir_tests::figures::go_where_called;
use weir_tests::kernel::in_own_namespace;

use cases::{Case, Flows};
use subject::Subject;

/// Measure what a packet costs in each program: this build's, and those of others by turns.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// Rounds to measure, after one that is thrown away.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Packets in a sample.
    #[arg(long, default_value_t = 1 << 17, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// To try it out: three rounds, TCP, without a million flows.
    #[arg(long)]
    short: bool,
    /// Measure this object of another build, too; may be given again.
    #[arg(long, value_name = "OBJECT")]
    against: Vec<PathBuf>,
    /// Measure this pinned XDP program, too; may be given again. Its balancer must serve 203.0.113.1 and
    /// 2001:db8:f::1, port 80, TCP and UDP.
    #[arg(long, value_name = "PATH")]
    against_pinned: Vec<PathBuf>,
    /// Measure only cases whose line contains each of these words.
    words: Vec<String>,
    /// How to print the figures.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLES: &str = "Examples:
  cargo xtask bench packets -- --short
  cargo xtask bench packets -- --against ../before/target/bpf/bpfel-unknown-none/release/weir-ebpf \
      --against-pinned /sys/fs/bpf/balancer --json packets.json network_xdp TCP";

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> Result<()> {
    go_where_called()?;
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "frames") {
        return frames::main(words);
    }
    let arguments = Arguments::parse();
    ensure!(nix::unistd::geteuid().is_root(), "this needs root: run it as root");
    let cases = chosen(&arguments);
    ensure!(!cases.is_empty(), "no case is called so: leave the words out to see all");
    let rounds = if arguments.short { arguments.rounds.min(3) } else { arguments.rounds };
    let mut subjects = vec![Subject::own()?];
    for object in &arguments.against {
        subjects.push(Subject::object(object)?);
    }
    for path in &arguments.against_pinned {
        subjects.push(Subject::pinned(path)?);
    }
    let figures = in_own_namespace(|| {
        testbed::go_first().context("cannot take precedence over other processes")?;
        let device = testbed::build()?;
        measure::measure(&cases, &mut subjects, device, rounds, arguments.packets)
    })?;
    let results = report::results(&cases, &subjects, &figures);
    match arguments.output {
        Output::Table => print!("{}", report::table(&cases, &subjects, &figures)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&results)?),
    }
    results.write(arguments.json.as_ref())
}

fn chosen(arguments: &Arguments) -> Vec<Case> {
    let is_chosen = |case: &Case| {
        let line = report::line(case).join(" ");
        arguments.words.iter().all(|word| line.contains(word.as_str()))
            && !(arguments.short
                && (case.flows == Flows::Million || case.protocol == Protocol::UDP))
    };
    cases::all().into_iter().filter(is_chosen).collect()
}
