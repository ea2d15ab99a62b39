//! What connecting to a Service costs a process: `cargo xtask bench sockets`.
//!
//! Calls of a process of node1, and of a pod for comparison, are timed in a lab. Every round has every
//! case once, in another order; a case that goes to a Service is compared with the same to a pod directly.
//! Nothing is asserted but that every call succeeds.

mod cases;
mod report;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use weir_tests::agent::Agent;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::Shape;
use weir_tests::manifests::Manifests;
use weir_tests::requires;
use weir_tests::traffic::Echo;

use cases::{Case, Times};

/// Measure what connecting to a Service costs a process.
#[derive(Parser)]
struct Arguments {
    /// Rounds; medians are printed.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
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
    let arguments = Arguments::parse();
    let Some(lab) = requires::lab(Shape::default())? else {
        bail!("this needs root");
    };
    if lab.node1.cgroup.is_none() {
        bail!("this needs a cgroup v2 hierarchy: mount -t cgroup2 cgroup2 DIR");
    }
    let _echo = Echo::start(&lab.node1.pods[0].namespace)?;
    let manifests = Manifests::nodes(&lab)?;
    let offer = ServedBy::OnePod.offer(&lab);
    manifests.offer(&offer)?;
    let without = run(&Case::direct(&lab), arguments.rounds)?;
    let agent = Agent::start(&lab.node1, &manifests, &[])?;
    let with = run(&Case::all(&lab, &offer), arguments.rounds)?;
    drop(agent);
    let figures = report::figures(&without, &with).context("a case was not measured")?;
    match arguments.output {
        Output::Table => print!("{}", report::table(&figures)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
    }
    Ok(())
}

/// The times of each case, a median of the rounds.
fn run(cases: &[Case<'_>], rounds: u32) -> Result<Times> {
    let mut all = Times::default();
    for round in 0..rounds as usize {
        let mut order: Vec<&Case> = cases.iter().collect();
        order.rotate_left(round % cases.len());
        for case in order {
            let nanoseconds = case.run().with_context(|| case.to_string())?;
            all.add(case, nanoseconds);
        }
    }
    Ok(all)
}
