//! Everything at once: while flows of every kind go on, the agent is killed again and again, its source of objects is away,
//! devices and addresses come, go and change, other Services too, and one write in ten to the maps is refused. No flow is
//! broken, no datagram lost, and in the end the maps mean what those of a fresh agent do.
//!
//! `cargo xtask chaos` does the same for minutes, and again with the seed of an earlier run.

mod devices;
mod events;
mod fixture;
mod objects;
mod tables;
mod traffic;

use std::collections::BTreeMap;
use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_tests::agent::{Agent, weir};

use self::events::{EVENTS, Event, KILL};
use self::fixture::{Chaos, offers};
use self::traffic::{Talk, Traffic};

#[test]
fn nothing_is_lost_whatever_happens_at_once() -> Result<()> {
    let minutes: Option<u64> = variable("WEIR_CHAOS_MINUTES")?;
    let time = minutes.map_or(Duration::from_secs(20), |minutes| Duration::from_secs(60 * minutes));
    let seed = variable("WEIR_CHAOS_SEED")?.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("seed {seed}");
    let is_control = env::var_os("WEIR_CHAOS_CONTROL").is_some();
    let Some(mut chaos) = Chaos::start(seed, is_control)? else {
        return Ok(());
    };
    let outcome = run(&mut chaos, time);
    outcome.with_context(|| {
        let log = chaos.agent.as_ref().map_or_else(String::new, Agent::log);
        let status = weir(&chaos.lab.node1, &["show", "status"]);
        let status = status.unwrap_or_else(|error| format!("{error:#}"));
        format!("seed {seed}; the agent's log:\n{log}\n{status}")
    })
}

fn variable<T: std::str::FromStr>(name: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(name) {
        Ok(text) => text.parse().map(Some).with_context(|| format!("{name} is `{text}`")),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(name.to_owned()),
    }
}

/// Lets everything happen for some `time`, each event once at least, and checks what has become of it.
fn run(chaos: &mut Chaos, time: Duration) -> Result<()> {
    let talks = if chaos.is_control {
        Talk::to_pods(&chaos.lab)
    } else {
        Talk::all(&chaos.lab, offers(&chaos.lab, chaos.has_spares))
    };
    let mut traffic = Traffic::start(talks);
    let started = Instant::now();
    let mut happened = BTreeMap::<&str, u32>::new();
    loop {
        let mut round: Vec<Event> = EVENTS.to_vec();
        // Some agents live long enough to collect garbage and to try again what has failed.
        if !happened.is_empty() && chaos.rng.bool() {
            round.retain(|(name, _)| *name != KILL);
        }
        chaos.rng.shuffle(&mut round);
        for (name, event) in round {
            println!("{:.3} {name}", started.elapsed().as_secs_f64());
            event(chaos).context(name)?;
            *happened.entry(name).or_default() += 1;
            chaos.look_after_agent()?;
            traffic.check_going_on()?;
            // No wait for anything: events come at their own pace.
            thread::sleep(Duration::from_millis(chaos.rng.u64(10..400)));
        }
        let (refused, _) = chaos.refusals.counts();
        let is_complete = refused > 0 || chaos.is_control || started.elapsed() > 3 * time;
        if started.elapsed() > time && is_complete {
            break;
        }
    }
    if !chaos.is_control {
        chaos.settle()?;
    }
    let reports = traffic.end()?;
    println!("{happened:#?}");
    let (refused, writes) = chaos.refusals.counts();
    println!("{refused} of {writes} writes refused; {} agents were killed", chaos.logs.len());
    println!("errors of agents: {:#?}", chaos.errors());
    for (talk, report) in reports {
        report.check().with_context(|| talk.to_string())?;
    }
    if chaos.is_control {
        return Ok(());
    }
    ensure!(refused > 0, "of {writes} writes none was refused");
    chaos.check_tables()
}
