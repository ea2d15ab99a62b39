//! `weir run`: makes the agent's configuration of flags and kube-proxy's file, and starts the agent.

mod flags;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use tokio::runtime::Builder;
use tracing::{info, warn};

pub use self::flags::{Args, Sizes};
use crate::agent;
use crate::config::{Config, KubeProxyFile, Origin, Servers, TableSizes, capacities};
use crate::host::{meminfo, processors};
use crate::source::Access;

impl Args {
    /// The agent's configuration on this node, by these flags and the file that they name.
    ///
    /// # Errors
    ///
    /// The configuration file, the host's name or its memory could not be read, or no source of objects is
    /// given.
    pub fn config(self) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let config_file = ConfigFile(self.config.as_deref());
        let origin = self.origin(&config_file, file.kubeconfig)?;
        let name =
            config_file.or(("--node-name", self.node_name), ("hostnameOverride", file.node_name));
        let node_name = match name {
            Some(name) => name,
            None => host_name()?,
        };
        let servers = Servers::default();
        let servers = Servers {
            healthz: config_file
                .or(
                    ("--healthz-bind-address", self.healthz_bind_address),
                    ("healthzBindAddress", file.healthz),
                )
                .unwrap_or(servers.healthz),
            metrics: config_file
                .or(
                    ("--metrics-bind-address", self.metrics_bind_address),
                    ("metricsBindAddress", file.metrics),
                )
                .unwrap_or(servers.metrics),
            must_bind: file.must_bind,
            // As kube-proxy does.
            late_after: file.sync_period.map_or(servers.late_after, |period| period * 2),
        };
        let nodeport_addresses = config_file.or(
            ("--nodeport-addresses", self.nodeport_addresses),
            ("nodePortAddresses", file.nodeport_addresses),
        );
        let sizes = self.sizes.tables(&config_file, file.conntrack);
        let processors = processors::count()
            .context("cannot read the number of possible processors: mount /sys of this kernel")?;
        let memory = meminfo::total()
            .context("cannot read the node's memory: mount /proc of this kernel")?;
        Ok(Config {
            origin,
            node_name,
            network_devices: self.network_devices,
            pod_devices: self.pod_devices,
            xdp: self.xdp,
            socket_balancing: self.socket_balancing,
            cgroup: self.cgroup,
            pin_directory: self.pins.directory(),
            nodeport_addresses: nodeport_addresses.unwrap_or_default(),
            skip: self.skip.unwrap_or_default(),
            external_ips: self.external_ips,
            sizes,
            capacities: capacities(sizes, memory, processors),
            servers,
            datapath_log: self.datapath_log,
        })
    }

    fn origin(
        &self,
        config_file: &ConfigFile<'_>,
        of_file: Option<PathBuf>,
    ) -> Result<Origin, clap::Error> {
        if !self.manifests.is_empty() {
            let paths = Some(self.manifests.clone());
            let of_file = of_file.map(|path| vec![path]);
            config_file.or(("--manifests", paths), ("clientConnection.kubeconfig", of_file));
            return Ok(Origin::Manifests(self.manifests.clone()));
        }
        let server = self.master.clone();
        let kubeconfig = config_file.or(
            ("--kubeconfig", self.kubeconfig.clone()),
            ("clientConnection.kubeconfig", of_file),
        );
        let access = match kubeconfig {
            Some(path) => Some(Access { kubeconfig: Some(path), server }),
            None => Access::of_this_pod(server),
        };
        access.map(Origin::Kubernetes).ok_or_else(|| {
            clap::Error::raw(
                ErrorKind::MissingRequiredArgument,
                "no source of the cluster's objects: give --kubeconfig FILE, or \
                 --manifests FILE|DIR, or run in a pod with a service account",
            )
        })
    }
}

impl Sizes {
    /// What these flags say, else kube-proxy's configuration file, which may say how many flows there are.
    fn tables(self, config_file: &ConfigFile<'_>, flows: Option<u32>) -> TableSizes {
        let flag = ("--conntrack-table-size", self.conntrack_table_size);
        TableSizes {
            conntrack: config_file.or(flag, ("conntrack", flows)),
            frontends: self.frontend_table_size,
            backends: self.backend_table_size,
            slots: self.slot_table_size,
            affinity: self.affinity_table_size,
        }
    }
}

/// Reads kube-proxy's configuration and warns of the fields that are ignored.
fn read(path: &Path) -> anyhow::Result<KubeProxyFile> {
    let cores =
        processors::online().context("cannot read the number of processors: report this")?;
    let file = KubeProxyFile::read(path, cores)?;
    if !file.ignored.is_empty() {
        let keys = file.ignored.join(", ");
        warn!("{}: these fields mean nothing to Weir and are ignored: {keys}", path.display());
    }
    Ok(file)
}

/// kube-proxy's configuration file, if one is given.
struct ConfigFile<'a>(Option<&'a Path>);

impl ConfigFile<'_> {
    /// The flag's value, else that of the file's key. Where both are there, the flag wins, with a log line.
    fn or<T: PartialEq>(
        &self,
        (flag, of_flag): (&str, Option<T>),
        (key, of_file): (&str, Option<T>),
    ) -> Option<T> {
        if let (Some(path), Some(_), Some(_)) = (self.0, &of_flag, &of_file)
            && of_flag != of_file
        {
            info!("{flag} overrides {key} of {}", path.display());
        }
        of_flag.or(of_file)
    }
}

/// Runs the agent until it is stopped.
///
/// # Errors
///
/// It could not start, or had to stop; programs and maps stay in the kernel.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config()?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the agent's runtime: report this")?;
    let result = runtime.block_on(agent::run::run(config));
    // A garbage collection may be under way; it is not waited for.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// The host's name in lower case, as the kubelet names a node by default.
fn host_name() -> anyhow::Result<String> {
    const FILE: &str = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(FILE)
        .with_context(|| format!("cannot read {FILE}: give this node's name with --node-name"))?;
    Ok(name.trim().to_lowercase())
}
