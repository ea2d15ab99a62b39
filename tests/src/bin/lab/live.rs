//! The live table: traffic until Ctrl-C, and every second what came of it.

use std::io::{Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use weir_tests::agent::Agent;
use weir_tests::lab::Lab;

use crate::load::{self, Load};
use crate::score::Score;
use crate::table::{Row, from_the_kernel, render};

/// The pause between two requests of a load.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the table is drawn.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows traffic in `lab` until the process is told to end, or the agent ends.
pub fn show(lab: &Lab, agent: &mut Agent, introduction: &str) -> Result<()> {
    let loads = load::all(lab);
    let scores: Vec<Mutex<Score>> = loads.iter().map(|_| Mutex::default()).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (load, score) in loads.iter().zip(&scores) {
            scope.spawn(|| repeat(lab, load, score, &over));
        }
        let shown = redraw(lab, agent, introduction, &loads, &scores);
        over.store(true, Ordering::Relaxed);
        shown
    })
}

fn repeat(lab: &Lab, load: &Load, score: &Mutex<Score>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let outcome = load.flow.send(lab, 1);
        score.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        thread::sleep(PAUSE);
    }
}

/// Draws the table again and again; returns only when the agent has ended.
fn redraw(
    lab: &Lab,
    agent: &mut Agent,
    introduction: &str,
    loads: &[Load],
    scores: &[Mutex<Score>],
) -> Result<()> {
    const CLEAR: &str = "\x1b[2J\x1b[H";
    let pods: Vec<String> = lab.pods().map(|pod| pod.name.clone()).collect();
    let mut before = vec![0; scores.len()];
    let mut drawn = Instant::now();
    loop {
        thread::sleep(REFRESH);
        agent.check_running()?;
        let elapsed = drawn.elapsed().as_secs_f64();
        drawn = Instant::now();
        let now: Vec<Score> = scores
            .iter()
            .map(|score| score.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect();
        let rows: Vec<Row> = loads
            .iter()
            .zip(now.iter().zip(&before))
            .map(|(load, (score, before))| Row {
                title: &load.title,
                score,
                rate: (score.answered() - before) as f64 / elapsed,
            })
            .collect();
        let table = render(&rows, &pods);
        before = now.iter().map(Score::answered).collect();
        let kernel = from_the_kernel(lab)?;
        let mut screen = stdout().lock();
        write!(
            screen,
            "{CLEAR}{introduction} Ctrl-C ends and removes everything.\n\n{table}\n{kernel}"
        )?;
        screen.flush()?;
    }
}
