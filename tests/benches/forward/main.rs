//! What a node pays to forward a packet: `cargo xtask bench forward`.
//!
//! Small UDP packets of 4,096 established flows enter a node of a lab; whatever it does with them happens on the
//! sender's core, and they are counted and dropped as soon as they are out of it. Every node, without a proxy,
//! with kube-proxy's rules, and with Weir, has a lab of its own, so that they can be measured by turns.

mod kube_proxy;
mod node;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use weir_tests::figures::go_where_called;

use node::{Node, Path, Proxy};
use report::Figures;

/// Measure what a node pays to forward a small packet, with and without Weir.
#[derive(Parser)]
#[command(after_help = EXAMPLE)]
struct Arguments {
    /// Rounds to measure, after one that is thrown away.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Packets in a sample.
    #[arg(long, default_value_t = 1 << 17, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// To try it out: three rounds of 16,384 packets.
    #[arg(long)]
    short: bool,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLE: &str = "Example: cargo xtask bench forward -- --rounds 5 --json forward.json";

fn main() -> Result<()> {
    go_where_called()?;
    let mut arguments = Arguments::parse();
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root: run it as root");
    }
    if arguments.short {
        (arguments.rounds, arguments.packets) = (arguments.rounds.min(3), 1 << 14);
    }
    let mut nodes = Vec::new();
    for proxy in Proxy::ALL {
        eprintln!("{proxy}: establishing flows");
        nodes.push(Node::start(proxy).with_context(|| proxy.to_string())?);
    }
    // From here on: servers and agents keep the processors they had.
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let mut tasks: Vec<(usize, Path)> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        tasks.extend(node.paths().map(|path| (index, path)));
    }
    let mut figures = Figures::default();
    for number in 0..=arguments.rounds {
        eprint!("\rround {number} of {}", arguments.rounds);
        fastrand::shuffle(&mut tasks);
        for (index, path) in &tasks {
            let node = &mut nodes[*index];
            let sample = node.sample(*path, arguments.packets);
            let sample = sample.with_context(|| format!("{}, {path}", node.proxy()))?;
            if number > 0 {
                figures.add(node.proxy(), *path, sample);
            }
        }
    }
    eprintln!();
    print!("{}", figures.table());
    let results = figures.results();
    print!("{}", results.goals());
    results.write(arguments.json.as_ref())
}
