//! The agent as users run it: the binary `weir`, as a process in a node of a lab.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::Node;
use crate::manifests::Manifests;

/// How long the agent may take to load its programs, read a large cluster and log `ready`.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running `weir run`. Dropping it kills it, which leaves its programs at work.
#[derive(Debug)]
pub struct Agent {
    process: Child,
    log: Arc<Log>,
    ended: bool,
}

/// What the agent has written to its standard error.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Agent {
    /// Starts the agent on `node` and waits until it logs that it is ready. More `arguments` of
    /// `weir run` may be given.
    ///
    /// # Errors
    /// If it ends before, or is not ready in time; its log is part of the error.
    pub fn start(node: &Node, manifests: &Manifests, arguments: &[&str]) -> Result<Self> {
        Self::start_binary(&binary()?, node, manifests, arguments)
    }

    /// The same with another binary than the one just built.
    ///
    /// # Errors
    /// If it ends before it is ready, or is not ready in time; its log is part of the error.
    pub fn start_binary(
        weir: &Path,
        node: &Node,
        manifests: &Manifests,
        arguments: &[&str],
    ) -> Result<Self> {
        let folder = manifests.folder().to_str().context("the lab's folder is not UTF-8")?;
        Self::start_with_source(weir, node, &[&["--manifests", folder], arguments].concat())
    }

    /// The same, where the `arguments` name the source of objects too.
    ///
    /// # Errors
    /// If it ends before it is ready, or is not ready in time; its log is part of the error.
    pub fn start_with_source(weir: &Path, node: &Node, arguments: &[&str]) -> Result<Self> {
        let mut agent = Self::begin(node.namespace.command(weir)?, node, arguments)?;
        agent.wait_for("ready")?;
        Ok(agent)
    }

    /// The same with a command that is to become the agent, on `node` already.
    ///
    /// # Errors
    /// If it ends before it is ready, or is not ready in time; its log is part of the error.
    pub fn start_command(
        weir: Command,
        node: &Node,
        manifests: &Manifests,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut agent = Self::begin_command(weir, node, manifests, arguments)?;
        agent.wait_for("ready")?;
        Ok(agent)
    }

    /// The same, but does not wait until it is ready.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn begin_command(
        weir: Command,
        node: &Node,
        manifests: &Manifests,
        arguments: &[&str],
    ) -> Result<Self> {
        let folder = manifests.folder().to_str().context("the lab's folder is not UTF-8")?;
        Self::begin(weir, node, &[&["--manifests", folder], arguments].concat())
    }

    fn begin(mut weir: Command, node: &Node, arguments: &[&str]) -> Result<Self> {
        let mut process = weir
            .arg("run")
            .args(["--node-name", node.name])
            .arg("--bpffs")
            .arg(&node.bpffs)
            .args(sockets(node, arguments))
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", weir.get_program().display()))?;
        let log = Arc::new(Log::default());
        if let Some(stderr) = process.stderr.take() {
            let log = Arc::clone(&log);
            thread::spawn(move || log.fill(BufReader::new(stderr)));
        }
        Ok(Self { process, log, ended: false })
    }

    /// Waits until the agent has logged a line with `words` in it, counted from its start.
    ///
    /// # Errors
    /// If it ends without, or takes too long; its log is part of the error.
    pub fn wait_for(&mut self, words: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !self.log.has(words, Duration::from_millis(50)) {
            let ended = self.process.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < deadline,
                "weir run {} without logging `{words}`. Its log:\n{}",
                ended.map_or_else(
                    || format!("ran for {TIMEOUT:?}"),
                    |status| format!("ended ({status})")
                ),
                self.log()
            );
        }
        Ok(())
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// If it has; its log is part of the error.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("weir run ended ({status}). Its log:\n{}", self.log());
        }
        Ok(())
    }

    /// Its process's id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// The lines of its log with `words` in them, so far.
    #[must_use]
    pub fn lines(&self, words: &str) -> Vec<String> {
        let lines = self.log.lines().into_iter();
        lines.filter(|line| line.contains(words)).collect()
    }

    /// Ends it by `signal` and waits until it has ended.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait()? {
                self.ended = true;
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "weir run goes on after {signal}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

impl Log {
    fn fill(&self, stderr: impl BufRead) {
        for line in stderr.lines().map_while(Result::ok) {
            self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            self.more.notify_all();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a line has `words` in it, by now or soon.
    fn has(&self, words: &str, soon: Duration) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let without = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(words));
        self.more
            .wait_timeout_while(lines, soon, without)
            .is_ok_and(|(_, waited)| !waited.timed_out())
    }
}

/// Whose sockets are balanced, unless the arguments say it: those of this process alone.
fn sockets<'a>(node: &'a Node, arguments: &[&str]) -> Vec<&'a OsStr> {
    match &node.cgroup {
        _ if arguments.contains(&"--cgroup") => Vec::new(),
        Some(group) => vec!["--cgroup".as_ref(), group.as_os_str()],
        None => vec!["--socket-balancing".as_ref(), "off".as_ref()],
    }
}

/// Runs another `weir` command on `node` to its end and returns what it printed.
///
/// # Errors
/// If it fails; its standard error is part of the error.
pub fn weir(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node
        .namespace
        .command(binary()?)?
        .args(arguments)
        .arg("--bpffs")
        .arg(&node.bpffs)
        .env("NO_COLOR", "1")
        .output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`weir {}` failed: {}", arguments.join(" "), complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The agent's binary: the one that `cargo xtask` names, else the one built beside these tests.
///
/// # Errors
/// If there is none.
pub fn binary() -> Result<PathBuf> {
    let named = std::env::var_os("WEIR_BIN").map(PathBuf::from);
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("weir"));
    named.into_iter().chain(beside).find(|weir| weir.is_file()).context(
        "there is no weir to test: run this through `cargo xtask test` or `cargo xtask run`",
    )
}
