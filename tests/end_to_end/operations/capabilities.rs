//! The agent needs no more than the three capabilities its DaemonSet asks for, no privilege it could
//! gain, and nothing to write to but its pins and its runtime directory: so it starts, takes over, balances the
//! sockets of processes outside its container, and detaches.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use serde_json::Value;
use weir_tests::agent::{Agent, weir};
use weir_tests::container::{CAPABILITIES, CAPABILITY_SET, Image};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::Shape;
use weir_tests::lab::cgroup::hierarchy;
use weir_tests::manifests::{Manifests, Offer};
use weir_tests::requires;
use weir_tests::traffic::get;

#[test]
fn the_agent_needs_three_capabilities_and_no_more() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let full = fixture.agent.take().context("the agent has been taken out")?;
    full.end(Signal::SIGTERM)?;
    weir(&fixture.lab.node1, &["detach"])?;

    let image = Image::build(&fixture.lab)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let agent = start(&image, &fixture)?;
        check_confined(agent.process())?;
        fixture.check_traffic().with_context(|| format!("its log:\n{}", agent.log()))?;
        check_memory(&image.weir(&fixture.lab.node1, &["show", "maps", "-o", "json"])?)?;
        check_sockets(
            &fixture,
            &image.weir(&fixture.lab.node1, &["show", "status", "-o", "json"])?,
        )?;
        agent.end(signal)?;
    }

    image.weir(&fixture.lab.node1, &["detach"])?;
    let service = ServedBy::LocalPods.offer(&fixture.lab).cluster_ips().of(Family::V4);
    for client in [&fixture.lab.node1.pods[1].namespace, &fixture.lab.node1.namespace] {
        ensure!(get(client, (service, Offer::PORT).into()).is_err(), "detach has left programs");
    }
    Ok(())
}

#[test]
fn a_pod_that_starts_is_served_by_the_confined_agent() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let full = fixture.agent.take().context("the agent has been taken out")?;
    full.end(Signal::SIGTERM)?;
    let image = Image::build(&fixture.lab)?;
    let agent = start(&image, &fixture)?;
    fixture.lab.start_pod()?;
    let pod = fixture.lab.node1.pods.last().context("no pod was started")?;
    let service = ServedBy::LocalPods.offer(&fixture.lab).cluster_ips().of(Family::V4);
    let deadline = Instant::now() + Duration::from_secs(15);
    while let Err(error) = get(&pod.namespace, (service, Offer::PORT).into()) {
        ensure!(Instant::now() < deadline, "{error:#}; the agent's log:\n{}", agent.log());
    }
    Ok(())
}

#[test]
fn without_any_one_of_them_the_agent_does_not_start_and_check_says_which_is_missing() -> Result<()>
{
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let image = Image::build(&lab)?;
    let manifests = Manifests::nodes(&lab)?;
    for (name, bit) in CAPABILITIES {
        let command = || image.command_with(CAPABILITY_SET & !(1 << bit), &lab.node1);
        let Err(error) = Agent::start_command(command()?, &lab.node1, &manifests, &[]) else {
            bail!("the agent does without {name}: do not ask for it");
        };
        let (log, missing) = (error.to_string(), format!("CAP_{name} missing"));
        ensure!(log.contains("weir run ended") && log.contains(&missing), "{name}: {log}");
        let output = command()?.arg("check").arg("--bpffs").arg(&lab.node1.bpffs).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(!output.status.success() && said.contains(&missing), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn with_all_of_them_check_tries_the_programs_and_says_what_it_could_not_try() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let said = Image::build(&lab)?.weir(&lab.node1, &["check"])?;
    for words in ["takes those that balance packets", "not tried, which needs CAP_SYS_ADMIN"] {
        ensure!(said.contains(words), "{said}");
    }
    Ok(())
}

fn start(image: &Image, fixture: &Fixture) -> Result<Agent> {
    let node = &fixture.lab.node1;
    Agent::start_command(image.command(node)?, node, &fixture.manifests, &[])
}

/// Checks that the process is what a container would be, or these tests would prove nothing.
fn check_confined(process: u32) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let set = format!("{CAPABILITY_SET:016x}");
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        ensure!(field(name) == Some(&set), "{name} {:?}, not {set}", field(name));
    }
    ensure!(field("NoNewPrivs:") == Some("1"), "it could gain privileges");
    let root_of = |process: &str| fs::read_link(format!("/proc/{process}/ns/cgroup"));
    let shares_root = root_of(&process.to_string())? == root_of("self")?;
    ensure!(!shares_root || hierarchy().is_none(), "it is shown all control groups");
    let mounts = fs::read_to_string(format!("/proc/{process}/mounts"))?;
    let is_writable = |line: &&str| {
        line.split(' ').nth(3).is_some_and(|options| options.split(',').any(|word| word == "rw"))
    };
    let writable: Vec<&str> = mounts.lines().filter(is_writable).collect();
    let is_meant = |line: &&str| line.contains("/bpffs-node1 ") || line.contains(" /run/weir ");
    ensure!(!writable.is_empty() && writable.iter().all(is_meant), "writable: {writable:#?}");
    Ok(())
}

/// Checks that `weir show status` shows the programs for sockets, by which [`Fixture::check_traffic`]
/// found processes of node1 served.
fn check_sockets(fixture: &Fixture, json: &str) -> Result<()> {
    let status: Value = serde_json::from_str(json)?;
    let said = status["agent"]["cgroup"].as_str().map(PathBuf::from);
    ensure!(said == fixture.lab.node1.cgroup, "{status:#}");
    Ok(())
}

/// Checks that `weir show maps` shows the memory of each.
fn check_memory(json: &str) -> Result<()> {
    let maps: Vec<Value> = serde_json::from_str(json)?;
    let missing = maps.iter().find(|map| !map["memory"].is_u64());
    ensure!(!maps.is_empty() && missing.is_none(), "{missing:?}");
    Ok(())
}
