//! `weir run --datapath-log` logs what the kernel decides about packets, and without it nothing.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use weir_tests::agent::Agent;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Shape, addresses};
use weir_tests::traffic::get;

/// A node port of the fixture's Service with local pods alone.
const NODE_PORT: u16 = 31_011;

#[test]
fn at_trace_the_log_has_each_step_of_a_walk() -> Result<()> {
    logs(&["--datapath-log", "trace"], |agent, frontend| {
        agent.wait_for(&format!("> {frontend}/tcp: forwarded, pass"))?;
        agent.wait_for("conntrack lookup: miss")?;
        agent.wait_for("frontend: found")?;
        agent.wait_for("half-open insert: done")
    })
}

#[test]
fn at_debug_the_log_has_a_line_a_walk_and_no_steps() -> Result<()> {
    logs(&["--datapath-log", "debug"], |agent, frontend| {
        agent.wait_for(&format!("> {frontend}/tcp: forwarded, pass"))?;
        let steps = agent.lines("conntrack lookup:");
        ensure!(steps.is_empty(), "steps are logged: {steps:?}");
        Ok(())
    })
}

#[test]
fn without_the_flag_no_walk_is_logged() -> Result<()> {
    logs(&[], |agent, _| {
        let walks = agent.lines("datapath: ");
        ensure!(walks.is_empty(), "walks are logged: {walks:?}");
        Ok(())
    })
}

/// Sends a request of the client outside to a node port, and hands the agent and the frontend to `check`.
fn logs(
    arguments: &[&str],
    check: impl FnOnce(&mut Agent, SocketAddr) -> Result<()>,
) -> Result<()> {
    let Some(mut fixture) = Fixture::start_with(Shape::default(), arguments)? else {
        return Ok(());
    };
    let frontend = SocketAddr::new(addresses::node(1).v4.into(), NODE_PORT);
    get(&fixture.lab.client, frontend)?;
    check(fixture.agent.as_mut().context("a running agent")?, frontend)
}
