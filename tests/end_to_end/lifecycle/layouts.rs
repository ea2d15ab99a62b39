//! A release whose maps have another layout takes over, and hands back, amid traffic: no packet is lost, no connection is
//! refused or ends.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use weir_tests::agent::{self, Agent};

use super::resizing::{LARGE, SMALL, amid_traffic};
use super::restarts::go_on;

/// The log line of an agent that has taken over.
const TAKEN_OVER: &str = "taken over from another layout";

#[test]
fn nothing_is_lost_when_a_release_with_another_layout_takes_over_and_hands_back() -> Result<()> {
    let other = other_binary()?;
    amid_traffic(|fixture| {
        let node = &fixture.lab.node1;
        let binaries = [(&other, &LARGE), (&agent::binary()?, &SMALL), (&other, &SMALL)];
        for (binary, sizes) in binaries.into_iter().chain([(&agent::binary()?, &LARGE)]) {
            let started = Instant::now();
            let agent = Agent::start_binary(binary, node, &fixture.manifests, sizes)?;
            let taken_over = agent.lines(TAKEN_OVER);
            println!("ready after {:?}; {taken_over:?}", started.elapsed());
            ensure!(taken_over.len() == 1, "nothing was taken over:\n{}", agent.log());
            ensure!(agent.lines("WARN").is_empty(), "{}", agent.log());
            go_on(&fixture.lab)?;
            agent.end(Signal::SIGKILL)?;
            go_on(&fixture.lab)?;
        }
        Ok(())
    })
}

/// The agent of the other layout, with its programs in it.
fn other_binary() -> Result<PathBuf> {
    let path = std::env::var_os("WEIR_OTHER_BIN").context(
        "WEIR_OTHER_BIN names no agent of another layout: run this through `cargo xtask test`",
    )?;
    Ok(path.into())
}
