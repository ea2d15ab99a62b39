//! Finding Kubernetes' programs, and running them within a lab.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::lab::Namespace;

/// Kubernetes' programs.
#[derive(Clone, Debug)]
pub struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) api_server: PathBuf,
    pub(super) controllers: PathBuf,
    pub(super) kube_proxy: Option<PathBuf>,
}

impl Programs {
    /// Those of the folder that `KUBEBUILDER_ASSETS` names, those that `cargo xtask test` has built,
    /// and those on the `PATH`, in this order; `None` if there is no control plane among them.
    #[must_use]
    pub fn find() -> Option<Self> {
        Some(Self {
            etcd: find("etcd")?,
            api_server: find("kube-apiserver")?,
            controllers: find("kube-controller-manager")?,
            kube_proxy: find("kube-proxy"),
        })
    }

    /// Whether the reference is among them.
    #[must_use]
    pub const fn have_kube_proxy(&self) -> bool {
        self.kube_proxy.is_some()
    }
}

fn find(program: &str) -> Option<PathBuf> {
    ["KUBEBUILDER_ASSETS", "WEIR_CONTROL_PLANE", "PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .flat_map(|folders| env::split_paths(&folders).collect::<Vec<_>>())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A running program of Kubernetes; dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    process: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts `program` within `namespace`; its output goes to a file in `folder`, after that of an
    /// earlier one of the same name.
    pub(super) fn start(
        namespace: &Namespace,
        program: &Path,
        name: &'static str,
        folder: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().append(true).create(true).open(&log)?;
        let process = namespace
            .command(program)?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { process, name, log })
    }

    /// Its process's id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Checks that it has not ended.
    pub(super) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("{} ended ({status}). The end of its log:\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// The last lines of its output.
    pub(super) fn log(&self) -> String {
        const LINES: usize = 30;
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("the end of {}'s log:\n{}", self.name, self.log());
        }
    }
}
