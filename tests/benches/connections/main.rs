//! What connections to a Service cost beside those to its pod directly: `cargo xtask bench connections`.
//!
//! A pod opens short TCP connections to another pod of its node, by the pod's own address and by a cluster IP, by
//! turns, while the node has 10, 1,000 or 10,000 Services. Client and server share one core, so that all of a
//! connection's work is in this process's time.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use serde_json::json;
use socket2::SockRef;
use weir_tests::agent::Agent;
use weir_tests::figures::{Goal, Results, Spread, go_where_called};
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::{Manifests, Offer};
use weir_tests::traffic::{Echo, HTTP_PORT};
use weir_tests::{machine, requires};

/// Measure connections per second, and their time on a processor, to a Service and to its pod directly.
#[derive(Parser)]
#[command(after_help = EXAMPLE)]
struct Arguments {
    /// Services there are: the benchmark is repeated with each number.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000, 10_000], value_name = "N,..")]
    services: Vec<u32>,
    /// Rounds to measure, after one that is thrown away.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections in a sample.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// To try it out: 10 and 1,000 Services, three rounds.
    #[arg(long)]
    short: bool,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLE: &str =
    "Example: cargo xtask bench connections -- --services 10,50000 --json connections.json";

/// What one connection took.
#[derive(Clone, Copy)]
struct Sample {
    elapsed: Duration,
    processor: Duration,
}

fn main() -> Result<()> {
    go_where_called()?;
    let mut arguments = Arguments::parse();
    if arguments.short {
        arguments.services = vec![10, 1000];
        arguments.rounds = arguments.rounds.min(3);
    }
    let mut results = Results::new(
        "connections",
        "Connections through a ClusterIP, relative to the pod directly",
        "× direct",
    );
    let mut details = Vec::new();
    for services in &arguments.services {
        let shape = Shape { local_pods: 2, remote_pods: 1, ..Shape::default() };
        let Some(lab) = requires::lab(shape)? else { bail!("this needs root: run it as root") };
        eprintln!("{services} Services");
        let rounds = measure(&lab, *services, &arguments)?;
        let each = |value: &dyn Fn(&[Sample; 2]) -> f64| Spread::of(rounds.iter().map(value));
        let rate = each(&|[direct, service]| ratio(direct.elapsed, service.elapsed));
        let cost = each(&|[direct, service]| ratio(service.processor, direct.processor));
        let name = format!("{services} Services");
        results.add(
            &format!("connections per second, {name}"),
            "Weir",
            rate,
            Some(Goal::AtLeast(0.98)),
        );
        results.add(
            &format!("processor per connection, {name}"),
            "Weir",
            cost,
            Some(Goal::AtMost(1.02)),
        );
        let microseconds = |value: &dyn Fn(&[Sample; 2]) -> Duration| {
            each(&|round| value(round).as_secs_f64() * 1e6)
        };
        details.push(json!({
            "services": services,
            "microsecondsDirect": microseconds(&|round| round[0].elapsed),
            "microsecondsService": microseconds(&|round| round[1].elapsed),
            "processorDirect": microseconds(&|round| round[0].processor),
            "processorService": microseconds(&|round| round[1].processor),
        }));
    }
    results.details = json!(details);
    for figure in &results.figures {
        let Spread { median, min, max } = figure.value;
        println!("{}: {median:.3} ({min:.3} – {max:.3}) {}", figure.label, results.unit);
    }
    println!("{}", machine::name());
    println!("{}", serde_json::to_string_pretty(&results.details)?);
    print!("{}", results.goals());
    results.write(arguments.json.as_ref())
}

fn ratio(part: Duration, of: Duration) -> f64 {
    part.as_secs_f64() / of.as_secs_f64()
}

/// Samples of each round: directly, and through the Service.
fn measure(lab: &Lab, services: u32, arguments: &Arguments) -> Result<Vec<[Sample; 2]>> {
    let manifests = Manifests::nodes(lab)?;
    let offer = ServedBy::OnePod.offer(lab);
    manifests.offer(&offer)?;
    manifests.write("others.yaml", &others(lab, services.saturating_sub(1)))?;
    let mut agent = Agent::start(&lab.node1, &manifests, &[])?;
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    // Before the server's threads are made, which inherit it.
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let _echo = Echo::start(&lab.node1.pods[0].namespace)?;
    let ends = [
        SocketAddr::new(lab.node1.pods[0].addresses.v4.into(), HTTP_PORT),
        SocketAddr::new(offer.cluster_ips().v4.into(), Offer::PORT),
    ];
    let mut rounds = Vec::new();
    for number in 0..=arguments.rounds {
        eprint!("\rround {number} of {}", arguments.rounds);
        let sample = |end: SocketAddr| {
            lab.node1.pods[1]
                .namespace
                .run(|| connect(end, arguments.connections))
                .with_context(|| format!("connections to {end}"))
        };
        // By turns the one or the other first.
        let round = if number % 2 == 0 {
            let direct = sample(ends[0])?;
            [direct, sample(ends[1])?]
        } else {
            let service = sample(ends[1])?;
            [sample(ends[0])?, service]
        };
        rounds.extend((number > 0).then_some(round));
    }
    eprintln!();
    agent.check_running()?;
    let mut all = CpuSet::new();
    for cpu in 0..std::thread::available_parallelism()?.get().max(2) {
        all.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &all)?;
    Ok(rounds)
}

/// Opens connections one after the other, a request over each.
fn connect(end: SocketAddr, connections: u32) -> Result<Sample> {
    let (begun, before) = (Instant::now(), processor()?);
    for _ in 0..connections {
        let mut stream = TcpStream::connect(end)?;
        // Without time to wait for packets that are late, or ports would run out.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
    }
    Ok(Sample {
        elapsed: begun.elapsed() / connections,
        processor: (processor()? - before) / connections,
    })
}

/// Time of this process on a processor: client, server, and what the kernel does for them.
fn processor() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time =
        |time: TimeVal| Duration::new(time.tv_sec().unsigned_abs(), 1000 * time.tv_usec() as u32);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// More Services, of one port and endpoint each.
fn others(lab: &Lab, count: u32) -> String {
    let pod = lab.node1.pods[0].addresses.v4;
    let mut yaml = String::new();
    for number in 0..count {
        let [_, _, high, low] = (number + 256).to_be_bytes();
        let _ = write!(
            yaml,
            "---
apiVersion: v1
kind: Service
metadata: {{name: other-{number}, namespace: default}}
spec:
  clusterIP: 10.97.{high}.{low}
  clusterIPs: [10.97.{high}.{low}]
  ports: [{{name: http, protocol: TCP, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: other-{number}
  namespace: default
  labels: {{kubernetes.io/service-name: other-{number}}}
addressType: IPv4
ports: [{{name: http, protocol: TCP, port: {HTTP_PORT}}}]
endpoints:
- {{addresses: ['{pod}'], conditions: {{ready: true}}, nodeName: {}}}
",
            lab.node1.name
        );
    }
    yaml
}
