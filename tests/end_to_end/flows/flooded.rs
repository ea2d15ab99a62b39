//! A switch floods frames for another host to every port, a node's too. The node leaves them alone, and
//! takes them once the link address is its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape};
use weir_tests::traffic::{AttemptResult, Flow, Origin, attempt};
use weir_tests::wait::until;

/// A link address that no host has at first.
const LINK: &str = "02:00:00:00:00:99";

/// How long no response is awaited.
const SILENCE: Duration = Duration::from_millis(300);

/// How long the agent may take to follow a change of a device.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn frames_for_another_host_pass_and_are_counted() -> Result<()> {
    check(Shape::default(), &[])
}

#[test]
fn frames_for_another_host_pass_native_xdp_and_are_counted() -> Result<()> {
    let shape = Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() };
    check(shape, &["--xdp", "native"])
}

fn check(shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    address_node1_by_other_link(lab)?;
    let before = fixture.counted(Outcome::PassedNotThisNode)?;
    for flow in flows(lab) {
        let result = attempt(&lab.client, flow.frontend, flow.protocol, SILENCE)?;
        ensure!(result == AttemptResult::NoReply, "{flow} was served: {result:?}");
    }
    let passed = fixture.counted(Outcome::PassedNotThisNode)? - before;
    ensure!(passed >= flows(lab).len() as u64, "{passed} frames for another host were counted");

    lab.node1.namespace.ip(&format!("link set eth0 address {LINK}"))?;
    for flow in flows(lab) {
        let reached = || flow.send(lab, 1000).map(|_| ());
        until("the node is reached by its new link address", CHANGE, reached)?;
    }
    if !arguments.is_empty() {
        for flow in flows(lab).split_off(flows(lab).len() / 2) {
            until("XDP serves the new link address alone", CHANGE, || {
                let before = fixture.counted(Outcome::PassedLeftToTc)?;
                flow.send(lab, 1)?;
                ensure!(fixture.counted(Outcome::PassedLeftToTc)? == before, "TC was needed");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// From now on the router and node2 send to node1 by [`LINK`].
fn address_node1_by_other_link(lab: &Lab) -> Result<()> {
    for family in Family::ALL {
        let node1 = lab.node1.addresses.of(family);
        for (namespace, device) in [(&lab.network, "nodes"), (&lab.node2.namespace, "eth0")] {
            namespace.ip(&format!("neigh replace {node1} lladdr {LINK} dev {device}"))?;
        }
    }
    Ok(())
}

/// UDP and TCP flows to node ports of node1; those to remote pods, which XDP can serve, are the second half.
fn flows(lab: &Lab) -> Vec<Flow<'_>> {
    let mut flows = Vec::new();
    for served in [ServedBy::LocalPods, ServedBy::RemotePods] {
        for family in Family::ALL {
            let frontend = (lab.node1.addresses.of(family), served.offer(lab).node_port()).into();
            for protocol in [Protocol::TCP, Protocol::UDP] {
                flows.push(Flow { origin: Origin::Outside, frontend, protocol });
            }
        }
    }
    flows
}
