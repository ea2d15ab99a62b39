//! What is wrong is reported, with what to do, and what worked goes on working.

use std::process::Output;

use anyhow::{Result, ensure};
use lb_common::address::Family;
use weir_tests::agent::binary;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Node, Shape};
use weir_tests::manifests::Offer;
use weir_tests::requires;
use weir_tests::traffic::get;

#[test]
fn a_broken_manifest_is_named_and_the_last_good_state_stays() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    fixture.manifests.write("local-pods.yaml", "kind: Service\nmetadata: [broken\n")?;
    if let Some(agent) = &mut fixture.agent {
        agent.wait_for("local-pods.yaml")?;
    }
    let lab = &fixture.lab;
    let offer = ServedBy::LocalPods.offer(lab);
    for family in Family::ALL {
        let frontend = (offer.cluster_ips().of(family), Offer::PORT).into();
        get(&lab.node1.pods[1].namespace, frontend)?;
    }
    Ok(())
}

#[test]
fn a_folder_that_is_not_there_is_named() -> Result<()> {
    refused(&["--manifests", "/nowhere/at/all"], "/nowhere/at/all")
}

#[test]
fn a_bpffs_that_is_none_is_named() -> Result<()> {
    refused(&["--manifests", "/etc/hostname", "--bpffs", "/proc"], "/proc")
}

#[test]
fn a_flag_that_does_not_exist_is_named() -> Result<()> {
    refused(&["--manifest", "/dev/null"], "--manifests")
}

/// `weir run` with these arguments must end by itself with a failure that names `culprit`.
#[track_caller]
fn refused(arguments: &[&str], culprit: &str) -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let Output { status, stderr, .. } = run(&lab.node1, arguments)?;
    let complaint = String::from_utf8_lossy(&stderr);
    ensure!(!status.success(), "weir run {arguments:?} succeeded");
    ensure!(complaint.contains(culprit), "{complaint:?} does not name {culprit}");
    Ok(())
}

fn run(node: &Node, arguments: &[&str]) -> Result<Output> {
    let mut command = node.namespace.command(binary()?)?;
    command.arg("run").args(["--node-name", node.name]).args(arguments);
    if !arguments.contains(&"--bpffs") {
        command.arg("--bpffs").arg(&node.bpffs);
    }
    Ok(command.env("NO_COLOR", "1").output()?)
}
