//! What is wrong is reported, with what to do, and what worked goes on working.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_tests::agent::binary;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Node, Shape};
use weir_tests::manifests::Offer;
use weir_tests::requires;
use weir_tests::traffic::get;
use weir_tests::wait::until;

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

/// A command that the kubeconfig names for credentials may wait for a server that does not answer.
#[test]
fn a_signal_ends_weir_while_a_command_for_credentials_hangs() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let (kubeconfig, started) = (lab.folder().join("kubeconfig"), lab.folder().join("started"));
    let command = format!("touch {}; exec sleep 20", started.display());
    std::fs::write(
        &kubeconfig,
        format!(
            "clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1:6443'}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users:
- name: u
  user:
    exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, '{command}'], interactiveMode: Never}}
current-context: c
"
        ),
    )?;
    let mut weir = lab.node1.namespace.command(binary()?)?;
    weir.args(["run", "--node-name", "node1", "--socket-balancing", "off", "--bpffs"]);
    weir.arg(&lab.node1.bpffs).arg("--kubeconfig").arg(&kubeconfig).stderr(Stdio::null());
    let mut weir = weir.spawn()?;
    until("the command is started", Duration::from_secs(20), || {
        ensure!(started.exists(), "{} is not there", started.display());
        Ok(())
    })?;
    kill(Pid::from_raw(weir.id().cast_signed()), Signal::SIGTERM)?;
    until("weir ends", Duration::from_secs(5), || {
        let status = weir.try_wait()?.context("it runs")?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
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
