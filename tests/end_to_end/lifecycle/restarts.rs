//! The agent may be killed and started again, with another binary too, amid traffic: nothing is lost.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::agent::{self, Agent};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Namespace, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, get, tick};
use weir_tests::wait::SLOWNESS;

#[test]
fn nothing_is_lost_when_the_agent_is_killed_and_comes_back() -> Result<()> {
    check(Signal::SIGKILL, |_| agent::binary())
}

#[test]
fn nothing_is_lost_when_the_agent_is_terminated_and_another_binary_takes_over() -> Result<()> {
    check(Signal::SIGTERM, another_binary)
}

fn check(signal: Signal, binary: impl FnOnce(&Lab) -> Result<PathBuf>) -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    let Fixture { lab, manifests, .. } = &fixture;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let talk = |(client, frontend)| {
            let over = &over;
            scope.spawn(move || talk_until(client, frontend, over))
        };
        let talks: Vec<_> = clients(lab).into_iter().map(talk).collect();
        let new = (|| -> Result<Agent> {
            go_on(lab)?;
            agent.end(signal)?;
            go_on(lab)?;
            let new = Agent::start_binary(&binary(lab)?, &lab.node1, manifests, &[])?;
            go_on(lab)?;
            Ok(new)
        })();
        over.store(true, Ordering::Relaxed);
        let talked: Result<Vec<()>> = talks.into_iter().map(joined).collect();
        let log = new?.log();
        talked.with_context(|| format!("the new agent's log:\n{log}"))?;
        Ok(())
    })
}

pub(super) fn joined<T>(thread: ScopedJoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(super) type Frontend = (std::net::IpAddr, u16);

/// A pod and the client outside, with the frontends they use.
pub(super) fn clients(lab: &Lab) -> Vec<(&Namespace, Frontend)> {
    let offer = ServedBy::AllPods.offer(lab);
    let of_family = |family| {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT);
        let node_port = (lab.node1.addresses.of(family), offer.node_port());
        [(&lab.node1.pods[1].namespace, cluster_ip), (&lab.client, node_port)]
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}

/// TCP connections of a client, and the time between its datagrams. An emulated machine could not keep
/// up with as many, and what it drops for that is not the agent's fault.
const CONNECTIONS: u32 = 10_u32.div_ceil(SLOWNESS);
const BETWEEN_DATAGRAMS: Duration = Duration::from_millis(1).saturating_mul(SLOWNESS * SLOWNESS);

/// Keeps [`CONNECTIONS`] busy and a datagram going every [`BETWEEN_DATAGRAMS`] until `over`; all must be
/// served, each connection by the same pod throughout.
pub(super) fn talk_until(client: &Namespace, frontend: Frontend, over: &AtomicBool) -> Result<()> {
    let done = || over.load(Ordering::Relaxed);
    let tally = thread::scope(|scope| {
        let ticking = scope.spawn(|| tick(client, frontend.into(), BETWEEN_DATAGRAMS, done));
        let talked = keep_connections_busy(client, frontend, done);
        let tally = ticking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        talked.and(tally)
    })?;
    ensure!(tally.lost() == 0, "datagrams to {frontend:?} were lost: {tally:?}");
    ensure!(tally.responses.len() == 1, "a flow moved: {tally:?}");
    Ok(())
}

fn keep_connections_busy(
    client: &Namespace,
    frontend: Frontend,
    done: impl Fn() -> bool,
) -> Result<()> {
    let connect = |_| {
        let mut connection = Client::connect(client, frontend.into())?;
        let pod = connection.exchange(1)?.pod;
        Ok((connection, pod))
    };
    let mut connections = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
    while !done() {
        for (connection, pod) in &mut connections {
            let response = connection.exchange(2000)?;
            ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
        }
    }
    Ok(())
}

/// Lets traffic flow for a second, in which new connections too must be served.
pub(super) fn go_on(lab: &Lab) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        for (client, frontend) in clients(lab) {
            get(client, frontend.into())?;
        }
    }
    Ok(())
}

/// The agent's binary with other bytes at its end.
fn another_binary(lab: &Lab) -> Result<PathBuf> {
    let mut bytes = std::fs::read(agent::binary()?)?;
    bytes.extend_from_slice(b"changed");
    let path = lab.folder().join("weir-changed");
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
