//! What changes of large clusters cost the agent: `cargo xtask bench changes`.
//!
//! The API server is played: it holds Services of many endpoints as text, lists them, and sends changes at a given
//! rate. The agent, its maps and its programs are real. What the agent needs for a change is read from its own metrics:
//! from when the change has come to it until the last write to a map. Nothing is asserted but that the maps hold
//! what the objects say.

mod objects;
mod report;
mod server;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use weir_tests::agent::{Agent, binary, weir};
use weir_tests::figures::{Process, Scrape};
use weir_tests::lab::{Lab, Shape};
use weir_tests::requires;
use weir_tests::wait::until;

use objects::{Changes, Size};
use report::Figures;
use server::Server;

/// Measure what changes of large clusters cost the agent.
#[derive(Parser)]
struct Arguments {
    /// Services and endpoints of each, as `10000x10`; several are separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1000x10,10000x10,30000x4")]
    sizes: Vec<Size>,
    /// Changes of one endpoint, one every 100 ms and then 100 a second.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Seconds of a large cluster's churn: 500 slices a second, among 10,000 Services of the last size at most.
    #[arg(long, default_value_t = 20)]
    churn: u64,
    /// More arguments of `weir run`, each as `--agent=ARGUMENT`; for example sizes of tables.
    #[arg(long = "agent", allow_hyphen_values = true)]
    agent: Vec<String>,
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

/// How long the agent may take to follow. Generous: it is reached only by failures.
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let shape = Shape { local_pods: 1, remote_pods: 0, ..Shape::default() };
    let Some(lab) = requires::lab(shape)? else {
        bail!("this needs root and a kernel that loads the programs");
    };
    let last = arguments.sizes.last().copied();
    let measure = |size: &Size| {
        eprintln!("{size} ..");
        let churn = if Some(*size) == last { arguments.churn } else { 0 };
        measure(&lab, *size, &arguments, Duration::from_secs(churn))
    };
    let figures = arguments.sizes.iter().map(measure).collect::<Result<Vec<_>>>()?;
    match arguments.output {
        Output::Table => println!("{}", report::table(&figures)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
    }
    Ok(())
}

fn measure(lab: &Lab, size: Size, arguments: &Arguments, churn: Duration) -> Result<Figures> {
    let server = Server::start(&lab.node1, size)?;
    let kubeconfig = server.kubeconfig().display().to_string();
    let mut run = vec!["--kubeconfig", &kubeconfig];
    run.extend(arguments.agent.iter().map(String::as_str));
    let start = || -> Result<(Agent, Duration, Scrape)> {
        let begun = Instant::now();
        let weir = Agent::start_with_source(&binary()?, &lab.node1, &run)?;
        let ready = begun.elapsed();
        until("the watches are open", TIMEOUT, || server.check_watched())?;
        Ok((weir, ready, Scrape::of(&lab.node1)?))
    };
    let (agent, ready, first) = start()?;
    let memory = Process::of(agent.process())?.memory;
    drop(agent);
    // Before changes: what they leave for flows to go is removed by an agent that starts, too.
    let (mut agent, restarted, again) = start()?;
    ensure!(again.counter("weir_map_operations_total") == 0.0, "a restart wrote to the maps");
    let mut changes = Changes::new(size);
    let quiet = follow(lab, &server, || changes.next(), arguments.changes, 10)?;
    let busy = follow(lab, &server, || changes.next(), arguments.changes, 100)?;
    let churned = match u32::try_from(churn.as_secs() * 500)? {
        0 => None,
        slices => {
            let (before, begun) = (Process::of(agent.process())?, Instant::now());
            let delays = follow(lab, &server, || changes.next_of_many(), slices, 500)?;
            let after = Process::of(agent.process())?;
            let processor = after.processor - before.processor;
            Some(report::Churn {
                delays: delays.delays,
                processor: processor.as_secs_f64() / begun.elapsed().as_secs_f64(),
                memory: after.memory,
            })
        }
    };
    agent.check_running()?;
    check_maps(lab, &changes)?;
    drop(agent);
    weir(&lab.node1, &["detach"]).context("cannot detach")?;
    Ok(Figures {
        size: size.to_string(),
        ready,
        planned: first.sum("weir_plan_duration_seconds"),
        written: first.sum("weir_write_duration_seconds"),
        memory,
        quiet,
        busy,
        churned,
        restarted,
        restart_planned: again.sum("weir_plan_duration_seconds"),
    })
}

/// Sends so many changes at this rate; returns what they cost when all are in the maps.
fn follow(
    lab: &Lab,
    server: &Server,
    mut next: impl FnMut() -> (String, String),
    changes: u32,
    per_second: u32,
) -> Result<report::Followed> {
    let before = Scrape::of(&lab.node1)?;
    let begun = Instant::now();
    for number in 0..changes {
        let due = begun + Duration::from_secs(1) * number / per_second;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let (name, slice) = next();
        server.change(name, slice);
    }
    let slices = "kubeproxy_sync_proxy_rules_endpoint_changes_total";
    let after = until("all changes are in the maps", TIMEOUT, || {
        let after = Scrape::of(&lab.node1)?;
        let come = after.counter(slices) - before.counter(slices);
        ensure!(come >= f64::from(changes), "{come} of {changes} have come");
        let pending = after.counter("kubeproxy_sync_proxy_rules_endpoint_changes_pending");
        ensure!(pending == 0.0, "{pending} are not in the kernel yet");
        Ok(after)
    })?;
    let per_change = |name: &str| (after.counter(name) - before.counter(name)) / f64::from(changes);
    Ok(report::Followed {
        delays: after.quantiles("weir_change_delay_seconds", &before),
        operations: per_change("weir_map_operations_total"),
        rows: per_change("weir_planned_rows_total"),
        of_everything: per_change("weir_plans_of_everything_total"),
    })
}

/// Checks that the maps hold the endpoints that were changed last.
fn check_maps(lab: &Lab, changes: &Changes) -> Result<()> {
    let contents = weir(&lab.node1, &["show", "backends", "-o", "json"])?;
    for address in changes.latest() {
        ensure!(contents.contains(&format!("\"{address}:8080\"")), "{address} has no backend");
    }
    Ok(())
}
