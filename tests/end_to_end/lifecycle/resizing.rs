//! Maps get other sizes while the agent starts, amid traffic: nothing is lost, even if it is killed meanwhile. Without a
//! flag they keep the sizes they have.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Port, Protocol, Tuple, V4};
use lb_common::conntrack::table::WhenFull;
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::{layout, maps};
use lb_userspace::maps::conntrack_gc::now;
use lb_userspace::maps::flow_table::FlowTable;
use lb_userspace::pins::Pins;
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, binary};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Node, Shape};

use super::restarts::{clients, go_on, joined, talk_until};

/// The log line of an agent that has resized maps.
const RESIZED: &str = "maps resized";

/// The flags of map sizes, with values that differ in all.
pub(super) const SMALL: [&str; 10] = [
    "--conntrack-table-size",
    "20000",
    "--frontend-table-size",
    "2000",
    "--backend-table-size",
    "3000",
    "--slot-table-size",
    "30000",
    "--affinity-table-size",
    "4000",
];
pub(super) const LARGE: [&str; 10] = [
    "--conntrack-table-size",
    "300000",
    "--frontend-table-size",
    "70000",
    "--backend-table-size",
    "80000",
    "--slot-table-size",
    "900000",
    "--affinity-table-size",
    "90000",
];

#[test]
fn nothing_is_lost_when_maps_get_other_sizes() -> Result<()> {
    amid_traffic(|fixture| {
        let Fixture { lab, manifests, .. } = fixture;
        for sizes in [&SMALL, &LARGE, &SMALL] {
            let agent = Agent::start(&lab.node1, manifests, sizes)?;
            ensure!(!agent.lines(RESIZED).is_empty(), "nothing was resized:\n{}", agent.log());
            ensure!(agent.lines("WARN").is_empty(), "{}", agent.log());
            has_sizes(&lab.node1, sizes)?;
            go_on(lab)?;
            agent.end(Signal::SIGTERM)?;
        }
        let agent = Agent::start(&lab.node1, manifests, &[])?;
        ensure!(agent.lines(RESIZED).is_empty(), "no flag says so:\n{}", agent.log());
        has_sizes(&lab.node1, &SMALL)
    })
}

#[test]
fn an_agent_that_is_killed_while_it_resizes_loses_nothing() -> Result<()> {
    const KILLS: u32 = 12;
    amid_traffic(|fixture| {
        let Fixture { lab, manifests, .. } = fixture;
        let started = Instant::now();
        drop(Agent::start(&lab.node1, manifests, &SMALL)?);
        let takes = started.elapsed();
        let mut resized = 0;
        for kill in 0..KILLS {
            let sizes = if kill % 2 == 0 { &LARGE } else { &SMALL };
            let mut weir = lab.node1.namespace.command(binary()?)?;
            weir.args(["run", "--node-name", lab.node1.name, "--socket-balancing", "off"])
                .arg("--bpffs")
                .arg(&lab.node1.bpffs)
                .arg("--manifests")
                .arg(manifests.folder())
                .args(sizes);
            let mut weir = weir.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
            // Wherever it is by then, later each time.
            thread::sleep(takes * (kill + 4) / (KILLS + 8));
            weir.kill()?;
            weir.wait()?;
            resized += u32::from(has_sizes(&lab.node1, sizes).is_ok());
            for (client, frontend) in clients(lab) {
                weir_tests::traffic::get(client, frontend.into())?;
            }
        }
        println!("a start takes {takes:?}; {resized} of {KILLS} had put the new maps in place");
        ensure!((1..KILLS).contains(&resized), "{resized} of {KILLS}: it was killed at one moment");
        let agent = Agent::start(&lab.node1, manifests, &SMALL)?;
        has_sizes(&lab.node1, &SMALL)?;
        let stage = pins(&lab.node1).resized().map(&maps::RESIZE);
        let left = stage.parent().is_some_and(Path::exists);
        ensure!(!left, "what was begun is left:\n{}", agent.log());
        Ok(())
    })
}

#[test]
fn sizes_that_hold_less_than_there_is_are_refused_and_nothing_changes() -> Result<()> {
    const FLOWS: u32 = 3000;
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    agent.end(Signal::SIGTERM)?;
    let Fixture { lab, manifests, .. } = &fixture;
    let table = FlowTable::<V4>::open(&pins(&lab.node1), &maps::CONNTRACK.v4)?;
    for number in 0..FLOWS {
        let [_, _, high, low] = number.to_be_bytes();
        let (client, service) = (V4([10, 9, high, low]), V4([10, 96, 0, 200]));
        let tuple = Tuple::new(client, Port::new(4000), service, Port::new(80), Protocol::TCP);
        let mut entry = ConntrackEntry::empty();
        (entry.state, entry.last_seen) = (State::ESTABLISHED, now());
        entry.rewritten = tuple;
        let inserted = table.insert(&tuple, &entry, WhenFull::Refuse);
        ensure!(inserted.is_ok(), "flow {number}: {inserted:?}");
    }
    let agent = Agent::start(&lab.node1, manifests, &["--conntrack-table-size", "1024"])?;
    let warned = agent.lines("maps keep the sizes they have");
    ensure!(warned.iter().any(|line| line.contains("CONNTRACK_V4")), "{}", agent.log());
    go_on(lab)
}

/// Does `what` while clients keep connections busy and datagrams going.
pub(super) fn amid_traffic(what: impl FnOnce(&Fixture) -> Result<()>) -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    agent.end(Signal::SIGTERM)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let talk = |(client, frontend)| {
            let over = &over;
            scope.spawn(move || talk_until(client, frontend, over))
        };
        let lab: &Lab = &fixture.lab;
        let talks: Vec<_> = clients(lab).into_iter().map(talk).collect();
        let done = go_on(lab).and_then(|()| what(&fixture));
        over.store(true, Ordering::Relaxed);
        let talked: Result<Vec<()>> = talks.into_iter().map(joined).collect();
        done?;
        talked.map(drop)
    })
}

fn pins(node: &Node) -> Pins {
    Pins::at(&node.bpffs.join(format!("weir/v{}", layout::VERSION)))
}

/// Whether the pinned maps have the sizes of these flags.
fn has_sizes(node: &Node, flags: &[&str]) -> Result<()> {
    let there = pins(node).capacities(0)?.context("maps are missing")?;
    let has = [there.conntrack / 2, there.frontends, there.backends, there.slots, there.affinity];
    for (flag, has) in flags.chunks(2).zip(has) {
        let wanted: u32 = flag[1].parse()?;
        // Tables of flows have whole buckets.
        ensure!(has >= wanted && has < wanted + 8, "{} is {has}, not {wanted}", flag[0]);
    }
    Ok(())
}
