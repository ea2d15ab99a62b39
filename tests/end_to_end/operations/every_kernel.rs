//! What is tried in every kernel that Weir claims to run on (`cargo xtask test --only kernels`): pods, a
//! client outside and a process of the node reach Services by every kind of hook and of route, the agent
//! is killed and comes back, and nothing is left after it. Each test does much, for in an emulated
//! machine the fixture takes most of the time.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use nix::sys::signal::Signal;
use weir_tests::agent::{Agent, weir};
use weir_tests::attached;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Attachment, PodRouting, Shape, Uplink};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin, get};
use weir_tests::wait::SLOWNESS;

use crate::lifecycle::detach::pins;

#[test]
fn every_kind_of_traffic_is_served_while_agents_come_and_go_and_nothing_is_left() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    fixture.check_traffic()?;
    let agent = fixture.agent.take().context("the agent has been taken out")?;
    agent.end(Signal::SIGKILL)?;
    fixture.check_traffic().context("after kill -9")?;
    let agent = Agent::start(&fixture.lab.node1, &fixture.manifests, &[])?;
    fixture.check_traffic().context("after a restart")?;
    println!("{}", weir(&fixture.lab.node1, &["show", "devices"])?);
    agent.end(Signal::SIGTERM)?;

    let node = &fixture.lab.node1;
    ensure!(attached::on(node)? > 0, "no programs before detach");
    weir(node, &["detach"])?;
    ensure!(attached::on(node)? == 0, "programs are left on devices");
    let left = pins(node)?;
    ensure!(left.is_empty(), "pins are left: {left:?}");
    let qdiscs = node.namespace.output("tc", &["qdisc", "show"])?;
    ensure!(!qdiscs.contains("clsact"), "qdiscs are left: {qdiscs}");
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let frontend = (offer.cluster_ips().of(Family::V4), Offer::PORT).into();
    let pod = &fixture.lab.node1.pods[1].namespace;
    ensure!(get(pod, frontend).is_err(), "the Service is still translated");
    Ok(())
}

#[test]
fn every_kind_of_traffic_is_served_over_bridges_and_an_overlay() -> Result<()> {
    check(
        Shape {
            attachment: Attachment::Bridged,
            pod_routing: PodRouting::Overlay,
            ..Shape::default()
        },
        &[],
    )
}

#[test]
fn every_kind_of_traffic_is_served_with_generic_xdp_and_no_offloads() -> Result<()> {
    check(Shape { offloads: false, ..Shape::default() }, &["--xdp", "generic"])
}

#[test]
fn every_kind_of_traffic_is_served_with_native_xdp() -> Result<()> {
    check(
        Shape { offloads: false, delivers_xdp_tx: true, ..Shape::default() },
        &["--xdp", "native"],
    )
}

#[test]
fn every_kind_of_traffic_is_served_through_a_tunnel_without_ethernet_headers() -> Result<()> {
    check(Shape { pod_routing: PodRouting::Tun, ..Shape::default() }, &[])
}

#[test]
fn every_kind_of_traffic_is_served_through_ipip_tunnels() -> Result<()> {
    check_with("ipip", Shape { pod_routing: PodRouting::Ipip, ..Shape::default() })
}

#[test]
fn every_kind_of_traffic_is_served_through_wireguard() -> Result<()> {
    if IS_GUEST || Command::new("wg").output().is_ok() {
        check_with("wireguard", Shape { pod_routing: PodRouting::WireGuard, ..Shape::default() })?;
    }
    Ok(())
}

#[test]
fn every_kind_of_traffic_is_served_at_a_bond() -> Result<()> {
    check_with("bonding", Shape { uplink: Uplink::Bond, ..Shape::default() })
}

#[test]
fn every_kind_of_traffic_is_served_at_a_vlan() -> Result<()> {
    check_with("8021q", Shape { uplink: Uplink::Vlan, ..Shape::default() })
}

const IS_GUEST: bool = SLOWNESS > 1;

/// The same where this kernel has the module for a kind of device. Distributions' kernels, which guests boot, have all.
fn check_with(module: &str, shape: Shape) -> Result<()> {
    let modprobe = || Command::new("modprobe").arg(module).status();
    if IS_GUEST || modprobe().is_ok_and(|status| status.success()) {
        check(shape, &[])?;
    }
    Ok(())
}

/// All that is small, and from outside to the other node what fills many packets.
fn check(shape: Shape, arguments: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start_with(shape, arguments)? else {
        return Ok(());
    };
    println!("{}", weir(&fixture.lab.node1, &["show", "devices"])?);
    fixture.check_traffic()?;
    let node_port = ServedBy::RemotePods.offer(&fixture.lab).node_port();
    for family in Family::ALL {
        let frontend = (fixture.lab.node1.addresses.of(family), node_port).into();
        let flow = Flow { origin: Origin::Outside, frontend, protocol: Protocol::TCP };
        flow.send(&fixture.lab, 100_000)?;
    }
    Ok(())
}
