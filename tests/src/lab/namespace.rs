//! One network namespace: running code and programs within it.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

/// A network namespace of a lab, under the name by which `ip netns` knows it.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of this name, which need not exist yet.
    pub(super) const fn named(name: String) -> Self {
        Self { name }
    }

    /// Its name, unique on this machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file by which programs such as `nsenter` find it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread within the namespace. Threads and programs that `work` starts are
    /// within it too, and sockets stay in it wherever they are used.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or `work` fails.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("cannot enter the namespace {}", self.name))?;
                work()
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// A command that runs within the namespace and is killed when the calling thread ends, so that
    /// nothing outlives a lab that is killed. `ip netns exec` would hide bpffs and cgroups from it.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self.open()?;
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only system calls are made; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        Ok(command)
    }

    /// Runs `program` within the namespace to its end and returns what it printed.
    ///
    /// # Errors
    /// If it cannot be run or fails; what it complained of is part of the error.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program)?.args(arguments).output()?;
        ensure!(
            output.status.success(),
            "`{program} {}` failed in {}: {}",
            arguments.join(" "),
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a kernel setting of this namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// If the kernel has no such setting or refuses the value.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (setting, value) in settings {
                std::fs::write(format!("/proc/sys/{setting}"), value)
                    .with_context(|| format!("cannot set {setting} to {value}"))?;
            }
            Ok(())
        })
    }

    /// Carries out lines of `ip` commands within the namespace, all in one process.
    ///
    /// # Errors
    /// If one of them fails; `ip` then stops and names its line.
    pub fn ip(&self, lines: &str) -> Result<()> {
        ip(&["-n", &self.name], lines)
    }

    /// The link address of a device.
    ///
    /// # Errors
    /// If there is no such device, or it has none.
    pub fn link_address(&self, device: &str) -> Result<[u8; 6]> {
        let text = self.output("ip", &["-json", "link", "show", "dev", device])?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let text = links[0]["address"].as_str().context("it has no link address")?;
        let mut link = [0; 6];
        for (byte, digits) in link.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(digits, 16)?;
        }
        Ok(link)
    }

    fn open(&self) -> Result<File> {
        let path = self.path();
        File::open(&path).with_context(|| format!("the namespace {} is gone", path.display()))
    }
}

/// Carries out lines of `ip` commands, all in one process.
pub(super) fn ip(options: &[&str], lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip`: install the package iproute2")?;
    if let Some(mut input) = child.stdin.take() {
        // `ip` stops reading at the first line that fails; its own message is better then.
        let _ = input.write_all(lines.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {complaint}in:\n{lines}", options.join(" "));
    }
    Ok(())
}

/// The `ip` command that makes a veth pair, each end in its namespace.
pub(super) fn veth_pair(end: &str, of: &Namespace, other_end: &str, other: &Namespace) -> String {
    let (of, other) = (of.name(), other.name());
    format!("link add {end} netns {of} type veth peer name {other_end} netns {other}\n")
}
