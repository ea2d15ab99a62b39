//! What a large cluster costs the agent: `cargo xtask bench agent`.
//!
//! A real API server, without controllers' help: the benchmark itself makes the Services and their
//! slices, which takes minutes less and gives the agent the same objects to read. Nothing is asserted
//! but that packets end at the right pods; the rest is printed.

mod cluster;
mod measure;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use weir_tests::agent::{self, Agent};
use weir_tests::control_plane::ControlPlane;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::lab::{Lab, Shape};
use weir_tests::{requires, traffic};

use cluster::Cluster;
use measure::Process;
use report::Figures;

/// Measure what a large cluster costs the agent.
#[derive(Parser)]
struct Arguments {
    /// Services of ten endpoints each.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// Changes of a slice to follow.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
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

/// Longer than the agent ever waits between two plans.
const QUIET: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let half = (cluster::ENDPOINTS / 2) as u8;
    let shape = Shape { local_pods: half, remote_pods: half, ..Shape::default() };
    let Some((lab, programs)) = requires::control_plane(Proxy::Weir, shape)? else {
        bail!(
            "this needs root, and etcd, kube-apiserver and kube-controller-manager: install Go, or \
             name their folder in KUBEBUILDER_ASSETS"
        );
    };
    let figures = measure(&lab, ControlPlane::start(&lab, programs)?, &arguments)?;
    match arguments.output {
        Output::Table => print!("{}", report::table(&figures)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
    }
    Ok(())
}

fn measure(lab: &Lab, control_plane: ControlPlane, arguments: &Arguments) -> Result<Figures> {
    let _servers = traffic::serve(lab)?;
    let begun = Instant::now();
    let cluster = Cluster::make(lab, &control_plane.api, arguments.services)?;
    let made = begun.elapsed();
    let kubeconfig = control_plane.kubeconfig().display().to_string();
    let mut run = vec!["--kubeconfig", &kubeconfig];
    run.extend(arguments.agent.iter().map(String::as_str));
    let start = || Agent::start_with_source(&agent::binary()?, &lab.node1, &run);

    let (received_before, begun) = (measure::received(&lab.node1)?, Instant::now());
    let mut weir = start()?;
    let ready = begun.elapsed();
    let first = Process::of(weir.process())?;
    let received = measure::received(&lab.node1)? - received_before;
    cluster.check_all()?;
    let changes = cluster.follow_changes(arguments.changes, QUIET)?;
    let changes_in_a_row = cluster.follow_changes(arguments.changes, Duration::ZERO)?;
    let then = Process::of(weir.process())?;
    weir.check_running()?;
    drop(weir);

    let begun = Instant::now();
    let weir = start()?;
    let restarted = begun.elapsed();
    ensure!(!weir.log().contains("maps written"), "a restart wrote to the maps:\n{}", weir.log());
    Ok(Figures {
        services: arguments.services,
        endpoints: cluster::ENDPOINTS,
        made,
        ready,
        processor: first.processor,
        received,
        memory: first.memory,
        memory_after_changes: then.memory,
        most_memory: then.most_memory,
        maps: measure::maps(&lab.node1).context("cannot read what the maps take")?,
        changes,
        changes_in_a_row,
        restarted,
    })
}
