//! The agent needs no more than the three capabilities its DaemonSet asks for, no privilege it could
//! gain, and nothing to write to but its pins and its place: so it starts, takes over, and detaches.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, weir};
use weir_tests::container::{CAPABILITY_SET, Image};
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::stage::{Served, Stage};
use weir_tests::traffic::{Flow, Origin, get};

#[test]
fn the_agent_needs_three_capabilities_and_no_more() -> Result<()> {
    let Some(mut stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    let full = stage.agent.take().context("the agent has been taken out")?;
    full.end(Signal::SIGTERM)?;
    weir(&stage.lab.node1, &["detach"])?;

    let image = Image::build(&stage.lab)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let agent = start(&image, &stage)?;
        check_confined(agent.process())?;
        check_traffic(&stage).with_context(|| format!("its log:\n{}", agent.log()))?;
        agent.end(signal)?;
    }

    image.weir(&stage.lab.node1, &["detach"])?;
    let client = &stage.lab.node1.pods[1].namespace;
    let service = Served::Here.offer(&stage.lab).cluster_ips().of(Family::V4);
    ensure!(get(client, (service, Offer::PORT).into()).is_err(), "detach has left programs");
    Ok(())
}

#[test]
fn a_pod_that_starts_is_served_by_the_confined_agent() -> Result<()> {
    let Some(mut stage) = Stage::set(Shape::default())? else {
        return Ok(());
    };
    let full = stage.agent.take().context("the agent has been taken out")?;
    full.end(Signal::SIGTERM)?;
    let image = Image::build(&stage.lab)?;
    let agent = start(&image, &stage)?;
    stage.lab.start_pod()?;
    let pod = stage.lab.node1.pods.last().context("no pod was started")?;
    let service = Served::Here.offer(&stage.lab).cluster_ips().of(Family::V4);
    let deadline = Instant::now() + Duration::from_secs(15);
    while let Err(error) = get(&pod.namespace, (service, Offer::PORT).into()) {
        ensure!(Instant::now() < deadline, "{error:#}; the agent's log:\n{}", agent.log());
    }
    Ok(())
}

fn start(image: &Image, stage: &Stage) -> Result<Agent> {
    let node = &stage.lab.node1;
    Agent::start_command(image.command(node)?, node, &stage.manifests, &[])
}

/// Checks that the process is what a container would be, lest these tests say nothing.
fn check_confined(process: u32) -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let set = format!("{CAPABILITY_SET:016x}");
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        ensure!(field(name) == Some(&set), "{name} {:?}, not {set}", field(name));
    }
    ensure!(field("NoNewPrivs:") == Some("1"), "it could gain privileges");
    let mounts = fs::read_to_string(format!("/proc/{process}/mounts"))?;
    let is_writable = |line: &&str| {
        line.split(' ').nth(3).is_some_and(|options| options.split(',').any(|word| word == "rw"))
    };
    let writable: Vec<&str> = mounts.lines().filter(is_writable).collect();
    let is_meant = |line: &&str| line.contains("/bpffs-node1 ") || line.contains(" /run/weir ");
    ensure!(!writable.is_empty() && writable.iter().all(is_meant), "writable: {writable:#?}");
    Ok(())
}

/// Checks that a pod and the client outside reach Services in every way, by both families.
fn check_traffic(stage: &Stage) -> Result<()> {
    let lab = &stage.lab;
    for served in Served::ALL {
        let offer = served.offer(lab);
        for family in Family::ALL {
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
            let of_pod = (Origin::Pod(&lab.node1.pods[0]), cluster_ip);
            for (origin, frontend) in [of_pod, (Origin::Outside, node_port)] {
                for protocol in [Protocol::TCP, Protocol::UDP] {
                    Flow { origin, frontend, protocol }.send(lab, 1000)?;
                }
            }
        }
    }
    Ok(())
}
