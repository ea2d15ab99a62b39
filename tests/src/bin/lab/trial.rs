//! The demonstration without a terminal: so many requests of each kind, a table, an edit of the
//! manifests, and a verdict.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weir_tests::agent::Agent;
use weir_tests::lab::Lab;
use weir_tests::manifests::{Manifests, SAMPLES};
use weir_tests::traffic::get;

use crate::load::{self, Load};
use crate::score::Score;
use crate::table::{Row, from_the_kernel, render};

/// Requests of each load.
const REQUESTS: u32 = 150;

/// How long an edit may take to be in force.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the demonstration; succeeds if every response was right.
pub fn run(lab: &Lab, manifests: &Manifests, agent: &mut Agent) -> Result<()> {
    let pods: Vec<String> = lab.pods().map(|pod| pod.name.clone()).collect();
    let loads = load::all(lab);
    let started = Instant::now();
    let scores = send_all(lab, &loads);
    let seconds = started.elapsed().as_secs_f64();
    let rows: Vec<Row> = loads
        .iter()
        .zip(&scores)
        .map(|(load, score)| Row {
            title: &load.title,
            score,
            rate: score.responded() as f64 / seconds,
        })
        .collect();
    println!("\n{}", render(&rows, &pods));
    println!("{}", from_the_kernel(lab)?);
    agent.check_running()?;
    judge(&loads, &scores, &pods)?;
    follow_an_edit(lab, manifests)?;
    println!("Every response was right, and the edit took effect.");
    Ok(())
}

/// Sends all requests of all loads, a thread for each load.
fn send_all(lab: &Lab, loads: &[Load]) -> Vec<Score> {
    let send = |load: &Load| {
        let mut score = Score::default();
        for _ in 0..REQUESTS {
            // A few failures show as much as many, and sooner.
            if score.failures < 3 {
                score.add(load.flow.send(lab, 1));
            }
        }
        score
    };
    thread::scope(|scope| {
        let threads: Vec<_> = loads.iter().map(|load| scope.spawn(move || send(load))).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|score| score.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Refuses failures, and a Service whose pods do not all get their share.
fn judge(loads: &[Load], scores: &[Score], pods: &[String]) -> Result<()> {
    for (load, score) in loads.iter().zip(scores) {
        let complaint = score.complaint.as_deref().unwrap_or_default();
        ensure!(
            score.failures == 0,
            "{} of {REQUESTS} requests failed: {}. The last: {complaint}",
            score.failures,
            load.title
        );
    }
    let scored: Vec<_> = loads.iter().map(|load| load.service).zip(scores).collect();
    ["web", "echo"].iter().try_for_each(|service| judge_service(service, &scored, pods))
}

fn judge_service(service: &str, scored: &[(&str, &Score)], pods: &[String]) -> Result<()> {
    let mut whole = Score::default();
    let own = scored.iter().filter(|(of, _)| *of == service);
    for (pod, responses) in own.flat_map(|(_, score)| &score.responses) {
        *whole.responses.entry(pod.clone()).or_default() += responses;
    }
    if let Some((pod, got)) = whole.short_of(pods).next() {
        bail!("{pod} got {got} of {} requests for {service}", whole.responded());
    }
    Ok(())
}

/// Gives `web` another node port, and waits until the old one is closed and the new one serves.
fn follow_an_edit(lab: &Lab, manifests: &Manifests) -> Result<()> {
    const OLD: u16 = 30080;
    const NEW: u16 = 30090;
    println!("Editing web.yaml: nodePort {OLD} becomes {NEW}.");
    let (name, text) = SAMPLES[1];
    let edited = text.replace(&format!("nodePort: {OLD}"), &format!("nodePort: {NEW}"));
    manifests.write(name, &edited)?;
    let at = |port| SocketAddr::from((lab.node1.addresses.v4, port));
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let moved = get(&lab.client, at(NEW));
        if moved.is_ok() && get(&lab.client, at(OLD)).is_err() {
            return Ok(());
        }
        if Instant::now() > deadline {
            moved.with_context(|| format!("the edit had no effect within {TIMEOUT:?}"))?;
            bail!("node port {OLD} is still served {TIMEOUT:?} after it was removed");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_pod_left_out_is_a_failure() {
        let score = Score { responses: BTreeMap::from([("a".into(), 90)]), ..Score::default() };
        let pods = ["a", "b"].map(String::from);
        let error = judge_service("web", &[("web", &score)], &pods).unwrap_err();
        assert_eq!(error.to_string(), "b got 0 of 90 requests for web");
        assert!(judge_service("web", &[("web", &score)], &pods[..1]).is_ok());
    }
}
