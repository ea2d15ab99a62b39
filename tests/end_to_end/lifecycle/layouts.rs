//! A release whose maps have another layout takes over, and hands back, amid traffic: no packet is lost, no connection is
//! refused or ends, even if agents of both are killed meanwhile.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::Protocol;
use nix::sys::signal::Signal;
use weir_tests::agent::{self, Agent};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Namespace, Node};
use weir_tests::requires::other_layout;
use weir_tests::traffic::{AttemptResult, Client, TIMEOUT, attempt};

use super::resizing::{LARGE, SMALL, amid_traffic};
use super::restarts::{Frontend, clients, go_on, joined};

/// The log line of an agent that has taken over.
const TAKEN_OVER: &str = "taken over from another layout";

#[test]
fn nothing_is_lost_when_a_release_with_another_layout_takes_over_and_hands_back() -> Result<()> {
    let Some(other) = other_layout() else { return Ok(()) };
    let own = agent::binary()?;
    amid_new_flows(|fixture| {
        let node = &fixture.lab.node1;
        for (binary, sizes) in [(&other, &LARGE), (&own, &SMALL), (&other, &SMALL), (&own, &LARGE)]
        {
            let agent = Agent::start_binary(binary, node, &fixture.manifests, sizes)?;
            let taken_over = agent.lines(TAKEN_OVER);
            println!("{taken_over:?}");
            ensure!(taken_over.len() == 1, "nothing was taken over:\n{}", agent.log());
            ensure!(agent.lines("WARN").is_empty(), "{}", agent.log());
            go_on(&fixture.lab)?;
            agent.end(Signal::SIGKILL)?;
            go_on(&fixture.lab)?;
            ensure!(sets_of_maps(node)? == 1, "maps of the release before are left");
        }
        Ok(())
    })
}

/// Does `what` amid traffic, while every client begins flows and ends them.
fn amid_new_flows(what: impl FnOnce(&Fixture) -> Result<()>) -> Result<()> {
    amid_traffic(|fixture| {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let begin = |(client, frontend)| {
                let over = &over;
                scope.spawn(move || begin_and_end(client, frontend, over))
            };
            let begun: Vec<_> = clients(&fixture.lab).into_iter().map(begin).collect();
            let done = what(fixture);
            over.store(true, Ordering::Relaxed);
            let begun: Result<Vec<u32>> = begun.into_iter().map(joined).collect();
            println!("flows begun meanwhile: {begun:?}");
            done?;
            begun.map(drop)
        })
    })
}

/// Begins connections that last for a moment, and asks by UDP from ports of their own, until `over`; returns how many.
fn begin_and_end(client: &Namespace, frontend: Frontend, over: &AtomicBool) -> Result<u32> {
    const AT_ONCE: usize = 20;
    // More of them would leave the agents no processor.
    const BETWEEN: Duration = Duration::from_millis(20);
    let (mut open, mut begun) = (VecDeque::new(), 0);
    while !over.load(Ordering::Relaxed) {
        let mut connection = Client::connect(client, frontend.into())?;
        let pod = connection.exchange(1)?.pod;
        open.push_back((connection, pod));
        for (connection, pod) in &mut open {
            let response = connection.exchange(100)?;
            ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
        }
        if open.len() > AT_ONCE {
            open.pop_front();
        }
        let asked = attempt(client, frontend.into(), Protocol::UDP, TIMEOUT)?;
        ensure!(asked == AttemptResult::Replied, "a question to {frontend:?}: {asked:?}");
        begun += 2;
        thread::sleep(BETWEEN);
    }
    Ok(begun)
}

/// How many sets of maps are pinned.
fn sets_of_maps(node: &Node) -> Result<usize> {
    let mut sets = 0;
    for version in std::fs::read_dir(node.bpffs.join("weir"))? {
        let maps = version?.path().join("maps");
        sets += usize::from(is_filled(&maps));
    }
    Ok(sets)
}

fn is_filled(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}
