//! `cargo xtask run --datapath-log LEVEL`: what the kernel decides about the packets of one request.

use std::net::SocketAddr;

use anyhow::Result;
use weir_tests::agent::Agent;
use weir_tests::lab::{Lab, addresses};
use weir_tests::traffic::get;

/// Sends one request from the client outside to a node port and prints the walks of its packets.
pub fn show(lab: &Lab, agent: &mut Agent) -> Result<()> {
    let frontend = SocketAddr::new(addresses::node(1).v4.into(), 30_080);
    let before = agent.lines("datapath").len();
    get(&lab.client, frontend)?;
    agent.wait_for(&format!("> {frontend}/tcp"))?;
    println!("One request of the client outside to {frontend}, as the datapath logs it:\n");
    for line in agent.lines("datapath").into_iter().skip(before) {
        println!("    {}", line.split_once("datapath: ").map_or(line.as_str(), |(_, text)| text));
    }
    println!();
    Ok(())
}
