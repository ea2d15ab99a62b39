//! A release whose maps have another layout takes over, and hands back, amid traffic: no packet is lost, no connection is
//! refused or ends, even if agents of both are killed meanwhile.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Protocol;
use lb_common::layout;
use lb_userspace::pins::{Handover, Pins};
use nix::sys::signal::Signal;
use weir_tests::agent::{self, Agent};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Namespace, Node};
use weir_tests::requires::other_layout;
use weir_tests::traffic::{AttemptResult, Client, TIMEOUT, attempt};

use super::resizing::{LARGE, SMALL, amid_traffic};
use super::restarts::{Frontend, clients, go_on, joined};

/// The log line of an agent that has taken over, and that of one that begins to, with the folders of both.
const TAKEN_OVER: &str = "taken over from another layout";
const TAKES_OVER: &str = "takes over from it";

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

#[test]
fn agents_of_two_layouts_that_are_killed_while_they_take_over_lose_nothing() -> Result<()> {
    let Some(other) = other_layout() else { return Ok(()) };
    let own = agent::binary()?;
    amid_new_flows(|fixture| {
        let node = &fixture.lab.node1;
        go_before_traffic()?;
        // The next one begins anew, takes over in turn from what is not in use everywhere, or goes on with what was begun.
        let kills = [
            (&other, Moment::Made),
            (&other, Moment::Begun),
            (&own, Moment::Begun),
            (&own, Moment::Attaching),
            (&other, Moment::Attaching),
        ];
        for (binary, moment) in kills {
            let sets = killed_at(moment, binary, fixture)?;
            ensure!(sets > 1, "it was killed too late: one set of maps is left");
            go_on(&fixture.lab)?;
        }
        for binary in [&other, &own] {
            let agent = Agent::start_binary(binary, node, &fixture.manifests, &[])?;
            go_on(&fixture.lab)?;
            ensure!(sets_of_maps(node)? == 1, "what was begun is left:\n{}", agent.log());
            agent.end(Signal::SIGKILL)?;
        }
        Ok(())
    })
}

/// How far an agent is that takes over.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Its maps are there, as a whole, and nothing uses them.
    Made,
    /// Its programs begin flows, and no hook has them.
    Begun,
    /// The hooks get its programs.
    Attaching,
}

/// Starts an agent and kills it at this moment; returns how many sets of maps it leaves.
fn killed_at(moment: Moment, binary: &Path, fixture: &Fixture) -> Result<usize> {
    const AT_MOST: Duration = Duration::from_secs(120);
    let node = &fixture.lab.node1;
    let at = Pins::at(&node.bpffs.join(format!("weir/v{}", layout::VERSION)));
    let mut to = at.generations()?.pop().context("nothing is pinned")?;
    // What the newest set is of goes on with it, and says nothing of it at first.
    let is_own = binary == agent::binary()?;
    let (mut from, goes_on) = (None, is_own == to.other_layout().is_none());
    let started = Instant::now();
    let command = node.namespace.command(binary)?;
    let agent = Agent::begin_command(command, node, &fixture.manifests, &[])?;
    loop {
        if let Some(line) = agent.lines(TAKES_OVER).pop() {
            let paths: Vec<&str> = line.split(' ').filter(|word| word.starts_with('/')).collect();
            let [old, new] = paths.as_slice() else { bail!("{line}") };
            (from, to) = (Some(Pins::at(Path::new(old))), Pins::at(Path::new(new)));
        }
        let has_come = match (moment, &from) {
            (Moment::Made, Some(_)) => to.layout_text()?.is_some(),
            (Moment::Begun, Some(from)) => from.handover()? == Handover::Begun,
            (Moment::Attaching, from) if goes_on || from.is_some() => !to.all_links()?.is_empty(),
            (_, _) => false,
        };
        if has_come {
            break;
        }
        ensure!(agent.lines(TAKEN_OVER).is_empty(), "{moment:?} is over:\n{}", agent.log());
        ensure!(started.elapsed() < AT_MOST, "{moment:?} does not come:\n{}", agent.log());
        thread::sleep(Duration::from_millis(1));
    }
    let took = started.elapsed();
    agent.end(Signal::SIGKILL)?;
    let sets = sets_of_maps(node)?;
    println!("{moment:?} after {took:?}: {sets} sets of maps");
    Ok(sets)
}

/// Has traffic leave the processors to this thread, which would miss the moment to kill an agent, and to the agents that
/// it starts, which would take most of a minute to load.
fn go_before_traffic() -> Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let status = Command::new("renice").args(["-n", "-10", "-p", &thread]).output()?.status;
    ensure!(status.success(), "renice: {status}");
    Ok(())
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
