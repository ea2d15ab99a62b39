//! What a large cluster costs the agent, and kube-proxy in its nftables mode beside it: `cargo xtask bench agent`.
//!
//! A real API server, without controllers' help: the benchmark itself makes the Services and their
//! slices, which takes minutes less and gives the agent the same objects to read. Nothing is asserted
//! but that packets end at the right pods; the rest is printed.

mod changes;
mod cluster;
mod measure;
mod report;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use weir_tests::agent::{self, Agent, weir};
use weir_tests::control_plane::ControlPlane;
use weir_tests::control_plane::proxy::{Proxy, Running};
use weir_tests::figures::Process;
use weir_tests::lab::{Lab, Shape};
use weir_tests::{requires, traffic};

use changes::Series;
use cluster::Cluster;
use report::{Figures, OfWeir, Subject};

/// Measure what a large cluster costs the agent, and kube-proxy in its nftables mode beside it.
#[derive(Parser)]
struct Arguments {
    /// Services of ten endpoints each; several numbers are separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000",
        value_parser = clap::value_parser!(u32).range(1..=50_000)
    )]
    services: Vec<u32>,
    /// Changes of an endpoint to follow: so many after a quiet time, and so many one after the other.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Seconds after which no more changes follow, of either kind.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=240))]
    seconds: u32,
    /// Measure kube-proxy, too, where there are so many Services or fewer; 0 leaves it out.
    #[arg(long, value_name = "SERVICES", default_value_t = 10_000)]
    kube_proxy_up_to: u32,
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Vec::new();
    for services in &arguments.services {
        figures.push(measure(*services, &arguments)?);
        // What is measured is kept, whatever becomes of the larger clusters.
        if matches!(arguments.output, Output::Table) {
            print!("{}", report::table(&figures[figures.len() - 1..]));
        }
    }
    if matches!(arguments.output, Output::Json) {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    Ok(())
}

/// Everything, in a lab of its own.
fn measure(services: u32, arguments: &Arguments) -> Result<Figures> {
    let half = (cluster::ENDPOINTS / 2) as u8;
    let shape = Shape { local_pods: half, remote_pods: half, ..Shape::default() };
    let mut proxies = vec![Proxy::Weir];
    proxies.extend((services <= arguments.kube_proxy_up_to).then_some(Proxy::KubeProxy));
    let needed = proxies[proxies.len() - 1];
    let Some((lab, programs)) = requires::control_plane(needed, shape)? else {
        bail!(
            "this needs root, and etcd, kube-apiserver, kube-controller-manager and kube-proxy: install Go, \
             or name their folder in KUBEBUILDER_ASSETS; without kube-proxy, use --kube-proxy-up-to 0"
        );
    };
    let control_plane = ControlPlane::start(&lab, programs)?;
    let _servers = traffic::serve(&lab)?;
    eprintln!("{services} Services: making them ..");
    let begun = Instant::now();
    let cluster = Cluster::make(&lab, &control_plane.api, services)?;
    let made = begun.elapsed();
    let measured =
        Measured { lab: &lab, control_plane: &control_plane, cluster: &cluster, arguments };
    let subjects = proxies.into_iter().map(|proxy| {
        eprintln!("{services} Services: {proxy} ..");
        measured.subject(proxy).with_context(|| proxy.to_string())
    });
    let subjects = subjects.collect::<Result<_>>()?;
    Ok(Figures { services, endpoints: cluster::ENDPOINTS, made, subjects })
}

/// A cluster, and a node on which one proxy is measured after the other.
struct Measured<'a> {
    lab: &'a Lab,
    control_plane: &'a ControlPlane,
    cluster: &'a Cluster<'a>,
    arguments: &'a Arguments,
}

impl Measured<'_> {
    /// Measures a proxy, and removes what it has left on the node.
    fn subject(&self, proxy: Proxy) -> Result<Subject> {
        let (node, begun) = (&self.lab.node1, Instant::now());
        let received = measure::received(node)?;
        let mut running = self.start(proxy)?;
        let ready = self.cluster.until_served(|| running.check_running())? - begun;
        let first = Process::of(running.id())?;
        let received = measure::received(node)? - received;
        let quiet = self.follow(&running, quiet(proxy))?;
        let in_a_row = self.follow(&running, Duration::ZERO)?;
        let then = Process::of(running.id())?;
        running.check_running()?;
        drop(running);
        let of_weir = match proxy {
            Proxy::Weir => {
                let of_weir = self.restart_weir()?;
                weir(node, &["detach"]).context("cannot detach")?;
                Some(of_weir)
            }
            Proxy::KubeProxy => {
                self.control_plane.clean_up_after_kube_proxy(node)?;
                None
            }
        };
        Ok(Subject {
            proxy: proxy.to_string(),
            ready,
            processor: first.processor,
            received,
            memory: first.memory,
            memory_after_changes: then.memory,
            quiet,
            in_a_row,
            of_weir,
        })
    }

    fn start(&self, proxy: Proxy) -> Result<Running> {
        match proxy {
            Proxy::Weir => self.start_weir().map(Running::Weir),
            Proxy::KubeProxy => proxy.start(&self.lab.node1, self.control_plane),
        }
    }

    /// With the arguments of the command line.
    fn start_weir(&self) -> Result<Agent> {
        let kubeconfig = self.control_plane.kubeconfig().display().to_string();
        let mut run = vec!["--kubeconfig", &kubeconfig];
        run.extend(self.arguments.agent.iter().map(String::as_str));
        Agent::start_with_source(&agent::binary()?, &self.lab.node1, &run)
    }

    /// Starts Weir where everything is in the kernel already.
    fn restart_weir(&self) -> Result<OfWeir> {
        let begun = Instant::now();
        let weir = self.start_weir()?;
        let restarted = begun.elapsed();
        ensure!(
            !weir.log().contains("maps written"),
            "a restart wrote to the maps:\n{}",
            weir.log()
        );
        let maps = measure::maps(&self.lab.node1).context("cannot read what the maps take")?;
        Ok(OfWeir { maps, restarted })
    }

    fn follow(&self, running: &Running, quiet: Duration) -> Result<changes::Followed> {
        let Arguments { changes, seconds, .. } = *self.arguments;
        let series = Series { changes, most: Duration::from_secs(seconds.into()), quiet };
        changes::follow(self.lab, self.control_plane, self.cluster, running, series)
    }
}

/// Longer than a proxy ever waits after a change before it takes in the next one: kube-proxy, by its default
/// `nftables.minSyncPeriod`, for a second.
const fn quiet(proxy: Proxy) -> Duration {
    Duration::from_millis(match proxy {
        Proxy::Weir => 250,
        Proxy::KubeProxy => 1500,
    })
}
