//! A guest: a kernel in an emulated machine, and what it prints on its console. No hardware help is
//! asked for, so it works wherever the emulator does.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::architecture::Architecture;
use super::catalogue::Depth;

/// How long a guest may print nothing, and how long it may take in all.
const SILENCE: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(3 * 3600);

/// The last lines of a guest's console that are shown when it fails.
const SHOWN: usize = 60;

/// Something that a guest did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its name in tests/guest/init.
    pub name: String,
    /// Whether it succeeded; `None` if it did not end.
    pub succeeded: Option<bool>,
    /// What it printed.
    pub lines: Vec<String>,
}

/// What a guest did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The kernel's release as it says itself, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// What it did.
    pub steps: Vec<Step>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Whether it came to its end.
    pub is_done: bool,
    /// How long it took, from the start of the emulator.
    pub took: Duration,
}

impl Report {
    /// Whether everything succeeded, in the kernel called `release`.
    pub fn is_good(&self, release: &str) -> bool {
        self.is_done
            && self.release == release
            && self.steps.iter().all(|step| step.succeeded == Some(true))
    }

    /// Reads a line of the console.
    fn read(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "@kernel" => rest.split(' ').next().unwrap_or_default().clone_into(&mut self.release),
            "@begin" => {
                let name = rest.to_owned();
                self.steps.push(Step { name, succeeded: None, lines: Vec::new() });
            }
            "@end" => {
                if let Some(step) = self.steps.last_mut() {
                    step.succeeded = Some(rest == "0");
                }
            }
            "@skip" => self.skipped.push(rest.to_owned()),
            "@done" => self.is_done = true,
            _ => {
                if let Some(step) = self.steps.last_mut()
                    && step.succeeded.is_none()
                {
                    step.lines.push(line.to_owned());
                }
            }
        }
    }
}

/// Boots `kernel` with the initial file system `initrd` and waits until the guest has switched itself
/// off. Every line that it prints goes to `show`.
///
/// # Errors
/// The emulator cannot be started, or the guest stopped, crashed or went silent before its end.
pub fn run(
    architecture: Architecture,
    kernel: &Path,
    initrd: &Path,
    how: (Depth, Option<&str>),
    show: impl FnMut(&str),
) -> Result<Report> {
    let started = Instant::now();
    let mut guest = boot(architecture, kernel, initrd, &command_line(architecture, how))?;
    let output = guest.0.stdout.take().context("the emulator has no output")?;
    let mut console = Console { report: Report::default(), last: VecDeque::new() };
    console.follow(&lines_of(output), started, show)?;
    console.report.took = started.elapsed();
    if !console.report.is_done {
        bail!("the guest stopped before its end. {}", console.last_lines());
    }
    Ok(console.report)
}

/// What the kernel, and tests/guest/init behind it, are started with.
fn command_line(architecture: Architecture, (depth, filter): (Depth, Option<&str>)) -> String {
    let depth = match depth {
        Depth::Load => "load",
        Depth::Lab => "lab",
        Depth::All => "all",
    };
    let console = architecture.console();
    let filter = filter.map(|filter| format!(" weir.filter={filter}")).unwrap_or_default();
    format!("console={console} loglevel=4 panic=-1 oops=panic weir.depth={depth}{filter}")
}

fn boot(
    architecture: Architecture,
    kernel: &Path,
    initrd: &Path,
    command_line: &str,
) -> Result<Guest> {
    // Killed with this process, should that be killed.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(architecture.emulator().0)
        .args(architecture.machine())
        .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "3G"])
        .args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", command_line])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the emulator")?;
    Ok(Guest(child))
}

/// The lines that come from the console, read by a thread of its own so that one may wait for them.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// What a guest has printed so far.
struct Console {
    report: Report,
    last: VecDeque<String>,
}

impl Console {
    /// Reads until the guest has ended.
    fn follow(
        &mut self,
        lines: &Receiver<String>,
        started: Instant,
        mut show: impl FnMut(&str),
    ) -> Result<()> {
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    show(&line);
                    self.report.read(&line);
                    self.last.push_back(line);
                    if self.last.len() > SHOWN {
                        self.last.pop_front();
                    }
                    if started.elapsed() > LONGEST {
                        bail!("the guest runs for more than {LONGEST:?}. {}", self.last_lines());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                // It cannot switch itself off.
                Err(RecvTimeoutError::Timeout) if self.report.is_done => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest printed nothing for {SILENCE:?}. {}", self.last_lines());
                }
            }
        }
    }

    fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        format!("Its last lines:\n{}", lines.join("\n"))
    }
}

/// An emulator that is ended with this value.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It has most likely ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn report_of(lines: &str) -> Report {
        let mut report = Report::default();
        lines.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn a_guest_reports_its_steps_and_their_results() {
        let report = report_of(
            "[    1.0] booting\n@kernel 6.1.0-1-cloud-amd64 x86_64\n@begin check\nok  kernel\n@end 0\n\
             between\n@skip a_test needs more\n@done",
        );
        assert!(report.is_good("6.1.0-1-cloud-amd64") && !report.is_good("6.1.0-2-cloud-amd64"));
        assert_eq!(report.release, "6.1.0-1-cloud-amd64");
        let lines = vec!["ok  kernel".to_owned()];
        let check = Step { name: "check".into(), succeeded: Some(true), lines };
        assert_eq!(report.steps, [check]);
        assert_eq!(report.skipped, ["a_test needs more"]);
    }

    #[test]
    fn a_step_that_fails_or_does_not_end_is_a_failure_and_so_is_a_guest_that_stops() {
        for lines in
            ["@begin a\n@end 1\n@done", "@begin a\n@begin b\n@end 0\n@done", "@begin a\n@end 0"]
        {
            assert!(
                !report_of(&format!("@kernel 6.1.0 x86_64\n{lines}")).is_good("6.1.0"),
                "{lines}"
            );
        }
    }
}
