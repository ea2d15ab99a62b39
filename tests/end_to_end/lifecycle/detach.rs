//! `weir detach` leaves nothing: no pin, no program on any device, no translation.

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use nix::sys::signal::Signal;
use weir_tests::agent::{binary, weir};
use weir_tests::attached;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Node, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::get;

#[test]
fn detach_leaves_no_pin_no_program_and_no_translation() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    agent.end(Signal::SIGTERM)?;
    let lab = &fixture.lab;
    let client = &lab.node1.pods[1].namespace;
    let service = ServedBy::LocalPods.offer(lab).cluster_ips().of(Family::V4);
    let frontend = (service, Offer::PORT).into();
    get(client, frontend).context("the service before detach, without the agent")?;
    ensure!(attached::on(&lab.node1)? > 0, "no programs before detach");

    weir(&lab.node1, &["detach"])?;
    ensure!(attached::on(&lab.node1)? == 0, "programs are left on devices");
    let left = pins(&lab.node1)?;
    ensure!(left.is_empty(), "pins are left: {left:?}");
    ensure!(get(client, frontend).is_err(), "the service is still translated");
    weir(&lab.node1, &["detach"]).context("a second detach has nothing to do, and says so")?;
    Ok(())
}

/// As from a debug pod, which has the node's bpffs and a `/run/weir` of its own.
#[test]
fn detach_from_another_container_leaves_a_running_agent_alone() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    let (weir, bpffs) = (binary()?, &node.bpffs);
    let detach = format!(
        "mount -t tmpfs tmpfs /run/weir && exec {} detach --bpffs {}",
        weir.display(),
        bpffs.display()
    );
    let output = node.namespace.command("unshare")?.args(["-m", "sh", "-c", &detach]).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it was detached");
    ensure!(complaint.contains("an agent works on what is pinned"), "{complaint}");
    fixture.agent.as_mut().context("the agent has been taken out")?.check_running()?;
    fixture.check_traffic()
}

/// What is in the node's bpffs, but for the two files that the kernel itself puts into each.
pub fn pins(node: &Node) -> Result<Vec<OsString>> {
    let own = |name: &OsString| name == "progs.debug" || name == "maps.debug";
    let mut pins = Vec::new();
    for entry in std::fs::read_dir(&node.bpffs)? {
        pins.push(entry?.file_name());
    }
    pins.retain(|name| !own(name));
    Ok(pins)
}
