//! What a packet costs: `cargo xtask bench packets`.
//!
//! Programs of the real object run under `BPF_PROG_TEST_RUN` behind a wrapper that makes each packet
//! new (`lb_ebpf::bench::shared`). Every round runs every case once, in an order of its own; what a round's
//! floor cost is subtracted from that round's cases, and the rest is also printed in hash look-ups of
//! the same round, because machines are noisy and ratios travel better than nanoseconds. After every
//! sample the programs' own counters must show that each packet had the case's outcome.

mod addresses;
mod bench;
mod cases;
mod measure;
mod report;
mod testbed;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use weir_tests::kernel::in_own_namespace;

/// Measure what a packet costs in each program.
#[derive(Parser)]
struct Arguments {
    /// Rounds to measure, after one that is thrown away.
    #[arg(long, default_value_t = 11)]
    rounds: u32,
    /// Packets in a sample.
    #[arg(long, default_value_t = 1 << 17)]
    packets: u32,
    /// Measure only cases whose line contains each of these words.
    words: Vec<String>,
    /// How to print the figures.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> Result<()> {
    let Arguments { rounds, packets, words, output, bench: _ } = Arguments::parse();
    ensure!(nix::unistd::geteuid().is_root(), "this needs root: run it as root");
    ensure!(rounds > 0 && packets > 0, "at least one round of one packet: give larger numbers");
    let cases: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| {
            let line = report::line(case).join(" ");
            words.iter().all(|word| line.contains(word.as_str()))
        })
        .collect();
    ensure!(!cases.is_empty(), "no case is called so: leave the words out to see all");
    let figures = in_own_namespace(|| {
        go_first().context("cannot take precedence over other processes")?;
        let device = testbed::build()?;
        measure::measure(&cases, device, rounds, packets)
    })?;
    match output {
        Output::Table => print!("{}", report::table(&cases, &figures)),
        Output::Json => println!("{}", report::json(&cases, &figures)?),
    }
    Ok(())
}

/// Lets this thread run before all ordinary ones (`SCHED_FIFO`).
fn go_first() -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameters, which live until it returns.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
