//! What a flood does to honest clients: `cargo xtask bench flood`.
//!
//! Millions of forged sources send SYNs and pairs of datagrams to a Service of node1 whose pods are remote, and
//! reply (eight of them, so that source ports do not run short), so that half-open flows and established ones fill the tables. Meanwhile honest clients use established
//! flows to another Service, and open new connections to it.

mod agent_at_work;
mod attack;
mod honest;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Parser;
use serde_json::json;
use weir_tests::agent::Agent;
use weir_tests::figures::{Goal, Results, Spread, go_where_called};
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Manifests;
use weir_tests::traffic::{ECHO_PORT, Echo, UdpServer};
use weir_tests::{machine, requires};

use attack::Attack;
use honest::{Connections, Datagrams, Tally, sent_again};

/// Measure what a flood from forged sources does to honest clients, and to the agent.
#[derive(Parser)]
#[command(after_help = EXAMPLE)]
struct Arguments {
    /// Forged sources, half of which send a SYN, half two datagrams.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    sources: u32,
    /// Seconds that they take.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Established flows of honest clients, half TCP, half UDP.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    established: u32,
    /// New connections of honest clients each second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    new: u32,
    /// To try it out: 200,000 sources in five seconds.
    #[arg(long)]
    short: bool,
    /// More arguments of `weir run`, each as `--agent=ARGUMENT`; for example sizes of tables.
    #[arg(long = "agent", allow_hyphen_values = true)]
    agent: Vec<String>,
    /// Write the figures to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const EXAMPLE: &str =
    "Example: cargo xtask bench flood -- --sources 1000000 --seconds 10 --json flood.json";

fn main() -> Result<()> {
    go_where_called()?;
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.sources, arguments.seconds) = (200_000, 5);
    }
    let shape = Shape { local_pods: 1, remote_pods: 8, offloads: false, ..Shape::default() };
    let Some(lab) = requires::lab(shape)? else { bail!("this needs root: run it as root") };
    let results = measure(&lab, &arguments)?;
    print!("{}", results.goals());
    println!("{}\n{}", machine::name(), serde_json::to_string_pretty(&results.details)?);
    results.write(arguments.json.as_ref())
}

fn measure(lab: &Lab, arguments: &Arguments) -> Result<Results> {
    let manifests = Manifests::nodes(lab)?;
    let honest = ServedBy::OnePod.offer(lab);
    let attacked = ServedBy::RemotePods.offer(lab);
    manifests.offer(&honest)?;
    manifests.offer(&attacked)?;
    let _echo = Echo::start(&lab.node1.pods[0].namespace)?;
    let _servers = lab
        .pods()
        .map(|pod| UdpServer::start(&pod.namespace, &pod.name, ECHO_PORT))
        .collect::<Result<Vec<_>>>()?;
    let more: Vec<&str> = arguments.agent.iter().map(String::as_str).collect();
    let mut agent = Agent::start(&lab.node1, &manifests, &more)?;
    let at = |port| SocketAddr::new(lab.node1.addresses.v4.into(), port);
    let to = at(honest.node_port());
    eprintln!("establishing {} flows", arguments.established);
    let half = arguments.established / 2;
    let datagrams = Datagrams::establish(&lab.client, to, half)?;
    let mut connections = Connections::establish(&lab.client, to, half)?;
    let time = Duration::from_secs(arguments.seconds);
    let attack = Attack::new(lab, at(attacked.node_port()), arguments.sources, time)?;

    let before = agent_at_work::outcomes(&lab.node1)?;
    let retransmitted = both_sent_again(lab)?;
    let sent = AtomicU32::new(0);
    eprintln!("{} sources in {time:?}", arguments.sources);
    let attack = || attack.send(&sent);
    let opening = |stop: &AtomicBool| honest::open(&lab.client, to, arguments.new, stop);
    let tallies = during(attack, (&datagrams, &mut connections), opening)?;
    let retransmitted = both_sent_again(lab)? - retransmitted;
    let sources = sent.load(Ordering::Relaxed);
    if sources < arguments.sources {
        eprintln!("this machine has sent only {sources} of {} sources", arguments.sources);
    }
    agent.check_running()?;
    let after = agent_at_work::outcomes(&lab.node1)?;
    eprintln!("waiting for a garbage collection");
    let maps = agent_at_work::maps(&lab.node1)?;
    let sweep = agent_at_work::sweep(agent.process())?;

    let rose: BTreeMap<_, _> = after
        .into_iter()
        .map(|(outcome, count)| (outcome.clone(), count - before.get(&outcome).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut results = results(tallies, retransmitted);
    let details = json!({
        "sources": sources,
        "sourcesAskedFor": arguments.sources,
        "seconds": arguments.seconds,
        "outcomes": rose,
        "sweepMilliseconds": sweep.as_millis() as u64,
        "maps": maps,
    });
    if let (Some(all), Some(more)) = (results.details.as_object_mut(), details.as_object()) {
        all.extend(more.clone());
    }
    Ok(results)
}

/// Has honest clients at work while `attack` lasts: over established flows, and opening new ones. Returns what
/// became of datagrams, segments and new connections.
fn during(
    attack: impl FnOnce() -> Result<()>,
    (datagrams, connections): (&Datagrams, &mut Connections),
    opening: impl Fn(&AtomicBool) -> Result<Tally> + Sync,
) -> Result<[Tally; 3]> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let udp = scope.spawn(|| datagrams.ask(&stop));
        let tcp = scope.spawn(|| connections.ask(&stop));
        let new = scope.spawn(|| opening(&stop));
        let flood = attack();
        stop.store(true, Ordering::Relaxed);
        let [udp, tcp, new] = [udp, tcp, new].map(|thread| {
            thread.join().map_err(|_| anyhow!("an honest client panicked")).and_then(|all| all)
        });
        flood?;
        Ok([udp?, tcp?, new?])
    })
}

fn results([udp, tcp, new]: [Tally; 3], retransmitted: u64) -> Results {
    let mut results = Results::new("flood", "Honest clients during a flood of forged sources", "%");
    let share = |part: u64, all: u64| Spread::of([100.0 * part as f64 / all.max(1) as f64]);
    let lost = "packets of established flows that were lost";
    results.add(lost, "UDP", share(udp.lost, udp.asked), Some(Goal::AtMost(0.0)));
    results.add(lost, "TCP", share(retransmitted, tcp.asked), Some(Goal::AtMost(0.0)));
    let made = share(new.asked - new.lost, new.asked);
    results.add("new connections that succeeded", "TCP", made, Some(Goal::AtLeast(99.0)));
    results.details = json!({
        "establishedDatagrams": {"asked": udp.asked, "lost": udp.lost},
        "establishedConnections": {"asked": tcp.asked, "segmentsSentAgain": retransmitted},
        "newConnections": {"asked": new.asked, "failed": new.lost},
    });
    results
}

fn both_sent_again(lab: &Lab) -> Result<u64> {
    Ok(sent_again(&lab.client)? + sent_again(&lab.node1.pods[0].namespace)?)
}
