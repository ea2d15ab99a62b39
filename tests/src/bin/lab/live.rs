//! The live table: traffic until Ctrl-C, and every second its results.

use std::io::{Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use terminal_size::{Height, Width, terminal_size};
use weir_tests::agent::Agent;
use weir_tests::lab::{Lab, is_ending};

use crate::load::{self, Load};
use crate::score::Score;
use crate::table::{Row, from_the_kernel, render};

/// The pause between two requests of a load.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the table is drawn.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows traffic in `lab` until a signal ends the process, or the agent ends.
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

/// Draws the table again and again; returns once a signal ends the process, or the agent has ended.
fn redraw(
    lab: &Lab,
    agent: &mut Agent,
    introduction: &str,
    loads: &[Load],
    scores: &[Mutex<Score>],
) -> Result<()> {
    let pods: Vec<String> = lab.pods().map(|pod| pod.name.clone()).collect();
    let mut before = vec![0; scores.len()];
    let mut drawn = Instant::now();
    while is_next_due() {
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
                rate: (score.responded() - before) as f64 / elapsed,
            })
            .collect();
        let table = render(&rows, &pods);
        before = now.iter().map(Score::responded).collect();
        let kernel = from_the_kernel(lab)?;
        draw(&format!("{introduction}\nCtrl-C ends and removes everything.\n\n{table}\n{kernel}"))?;
    }
    Ok(())
}

/// Waits until the table is to be drawn again; `false` if the process is to end before.
fn is_next_due() -> bool {
    const POLL_INTERVAL: Duration = Duration::from_millis(20);
    let due = Instant::now() + REFRESH;
    while Instant::now() < due && !is_ending() {
        thread::sleep(POLL_INTERVAL);
    }
    !is_ending()
}

/// Puts as much of `text` on the screen as fits, instead of what was there.
fn draw(text: &str) -> Result<()> {
    // In a synchronized update, which terminals show as a whole, or at once if they do not know it.
    const BEGIN: &str = "\x1b[?2026h\x1b[H\x1b[J";
    const END: &str = "\x1b[?2026l";
    // A serial console has no columns and no rows.
    let size = terminal_size().filter(|(columns, rows)| columns.0 > 0 && rows.0 > 0);
    let shown = size.map_or(text, |size| beginning(text, size));
    let mut screen = stdout().lock();
    write!(screen, "{BEGIN}{shown}{END}")?;
    Ok(screen.flush()?)
}

/// The lines of `text` that fit on a screen with a row left for the cursor. Long ones are left whole for
/// the terminal to wrap, so that commands can be copied.
fn beginning(text: &str, (Width(columns), Height(rows)): (Width, Height)) -> &str {
    let mut left = usize::from(rows).saturating_sub(1);
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let takes = line.trim_end().chars().count().div_ceil(usize::from(columns.max(1))).max(1);
        let Some(rest) = left.checked_sub(takes) else { break };
        (left, end) = (rest, end + line.len());
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_on_the_screen_are_left_out() {
        let text = "one\n\nthree is wrapped\nfour\n";
        let on = |columns, rows| beginning(text, (Width(columns), Height(rows)));
        assert_eq!(on(80, 25), text);
        assert_eq!(on(80, 4), "one\n\nthree is wrapped\n");
        assert_eq!(on(8, 4), "one\n\n");
        assert_eq!(on(8, 5), "one\n\nthree is wrapped\n");
        assert_eq!(on(0, 0), "");
    }
}
