//! `weir run`: what it takes, and the agent's start.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind;
use tokio::runtime::Builder;
use tracing::{info, warn};

use super::{Cli, Pins};
use crate::agent;
use crate::config::{
    Config, DeviceNames, ExternalIps, KubeProxyFile, Listen, Origin, Servers, SocketBalancing,
    TableSizes, XdpMode, capacities,
};
use crate::plan::NodePortAddresses;
use crate::programs;
use crate::source::Access;

/// Balances this node's traffic until stopped; what is in the kernel goes on without it.
#[derive(clap::Args, Clone, PartialEq, Debug)]
#[command(after_help = "\
Examples:
  weir run --manifests services.yaml
      Find the devices, balance what the file says, follow its changes.
  weir run --manifests /etc/weir --node-name node-1 --network-devices 'eth0,bond*'
      All files of a directory; endpoints whose nodeName is node-1 are this node's.
  weir run --kubeconfig /etc/weir/kubeconfig --master https://10.0.0.10:6443
      Watch the API server at that address, with the kubeconfig's credentials.
  kubectl get services,endpointslices,nodes,servicecidrs -A -o yaml > cluster.yaml
      What a cluster holds, as weir run --manifests takes it.

Stopped by any signal, it leaves programs and maps in place: traffic goes on, and the next start
takes over from there. `weir detach` removes them.")]
pub struct Args {
    /// File of Service, EndpointSlice, Node, ServiceCIDR, Pod and List objects (YAML or JSON, several
    /// documents), or a directory of such files; may be given several times. Changes are picked up
    #[arg(long, value_name = "FILE|DIR")]
    pub manifests: Vec<PathBuf>,
    /// Kubeconfig of the API server to watch, by its current context; read again when it or a file it
    /// names changes [default: the service account, in a pod that has one]
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, in place of the kubeconfig's or the environment's, as in
    /// https://10.0.0.10:6443. Give one in a pod: the environment names the ClusterIP of the Service
    /// `kubernetes`, to which nothing leads before Weir runs
    #[arg(long, value_name = "URL", conflicts_with = "manifests")]
    pub master: Option<String>,
    /// Kube-proxy's configuration file (KubeProxyConfiguration): what means something to Weir is
    /// taken, the rest is named in a warning. Flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this node, as its Node object has it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Devices that lead outside, by name or pattern [default: those with the default route or a
    /// node address, and tunnels]
    #[arg(long, value_name = "GLOB,..")]
    pub network_devices: Option<DeviceNames>,
    /// Devices that lead to pods, by name or pattern [default: veth and netkit devices whose peer is
    /// in another network namespace]
    #[arg(long, value_name = "GLOB,..")]
    pub pod_devices: Option<DeviceNames>,
    /// Which network devices get XDP in front of TC
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub xdp: XdpMode,
    /// Whose sockets are balanced when they are connected
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub socket_balancing: SocketBalancing,
    /// Control group (v2) whose processes' sockets are balanced [default: the root of the hierarchy
    /// that is mounted]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Addresses of this node at which node ports answer: `primary` (in each family the Node object's
    /// first, else the first network device's), or prefixes; a family without a prefix is not
    /// restricted [default: primary]
    #[arg(long, value_name = "primary|CIDR,..")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// What becomes of Services' external IPs, by which whoever may write a Service can draw any
    /// address's traffic to his own pods
    #[arg(long, value_enum, default_value_t, value_name = "honour|ignore")]
    pub external_ips: ExternalIps,
    /// Where load balancers and probes ask /healthz, /livez and /readyz; empty for nowhere
    /// [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = Listen::healthz)]
    pub healthz_bind_address: Option<Listen>,
    /// Where /metrics, /proxyMode and /configz are; empty for nowhere [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = Listen::metrics)]
    pub metrics_bind_address: Option<Listen>,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
    /// How much fits in the maps.
    #[command(flatten, next_help_heading = "Sizes")]
    pub sizes: Sizes,
}

/// How much fits in the maps. They are made once: a size that differs from that of the pinned maps
/// takes effect after `weir detach`.
#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sizes {
    /// Flows per address family that can be established at once [default: 0.25 % of the memory,
    /// 32768 to 1048576]
    #[arg(long, value_name = "N", value_parser = size())]
    pub connection_table_size: Option<u32>,
    /// Frontends (address, port, protocol) per address family, and Service ports [default: 65536]
    #[arg(long, value_name = "N", value_parser = size())]
    pub frontend_table_size: Option<u32>,
    /// Backends (Service port, address) per address family [default: by the memory, 32768 to 131072]
    #[arg(long, value_name = "N", value_parser = size())]
    pub backend_table_size: Option<u32>,
    /// Slots of all pools together [default: by the memory, 262144 to 4194304]
    #[arg(long, value_name = "N", value_parser = size())]
    pub slot_table_size: Option<u32>,
    /// Clients per address family that are remembered for session affinity [default: 32768]
    #[arg(long, value_name = "N", value_parser = size())]
    pub affinity_table_size: Option<u32>,
}

/// A table of fewer entries could not hold a small cluster; one of more would not fit in 32 bits
/// once it is counted in bytes.
fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1024..=1 << 26)
}

impl Args {
    /// The settings these flags stand for on this node.
    ///
    /// # Errors
    ///
    /// The configuration file, the host's name or its memory could not be read, or nothing says
    /// where the objects are.
    pub fn config(self) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let given = Given(self.config.as_deref());
        let origin = self.origin(&given, file.kubeconfig)?;
        let name = given.one(("--node-name", self.node_name), ("hostnameOverride", file.node_name));
        let node_name = match name {
            Some(name) => name,
            None => host_name()?,
        };
        let servers = Servers::default();
        let servers = Servers {
            healthz: given
                .one(
                    ("--healthz-bind-address", self.healthz_bind_address),
                    ("healthzBindAddress", file.healthz),
                )
                .unwrap_or(servers.healthz),
            metrics: given
                .one(
                    ("--metrics-bind-address", self.metrics_bind_address),
                    ("metricsBindAddress", file.metrics),
                )
                .unwrap_or(servers.metrics),
            must_bind: file.must_bind,
            // Kube-proxy's rule.
            late_after: file.sync_period.map_or(servers.late_after, |period| period * 2),
        };
        let nodeport_addresses = given.one(
            ("--nodeport-addresses", self.nodeport_addresses),
            ("nodePortAddresses", file.nodeport_addresses),
        );
        let sizes = TableSizes {
            connections: given.one(
                ("--connection-table-size", self.sizes.connection_table_size),
                ("conntrack", file.connections),
            ),
            frontends: self.sizes.frontend_table_size,
            backends: self.sizes.backend_table_size,
            slots: self.sizes.slot_table_size,
            affinity: self.sizes.affinity_table_size,
        };
        let processors = programs::processors()
            .context("the processors there may be cannot be told: mount /sys of this kernel")?;
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
            external_ips: self.external_ips,
            capacities: capacities(sizes, memory()?, processors),
            servers,
        })
    }

    fn origin(&self, given: &Given<'_>, of_file: Option<PathBuf>) -> Result<Origin, clap::Error> {
        if !self.manifests.is_empty() {
            let paths = Some(self.manifests.clone());
            let of_file = of_file.map(|path| vec![path]);
            given.one(("--manifests", paths), ("clientConnection.kubeconfig", of_file));
            return Ok(Origin::Manifests(self.manifests.clone()));
        }
        let server = self.master.clone();
        let kubeconfig = given.one(
            ("--kubeconfig", self.kubeconfig.clone()),
            ("clientConnection.kubeconfig", of_file),
        );
        let access = match kubeconfig {
            Some(path) => Some(Access { kubeconfig: Some(path), server }),
            None => Access::of_this_pod(server),
        };
        access.map(Origin::Kubernetes).ok_or_else(|| {
            Cli::command().error(
                ErrorKind::MissingRequiredArgument,
                "nothing says where the cluster's objects are: give --kubeconfig FILE, or \
                 --manifests FILE|DIR, or run in a pod with a service account",
            )
        })
    }
}

/// Reads kube-proxy's configuration and names what of it is not honoured.
fn read(path: &Path) -> anyhow::Result<KubeProxyFile> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let file = KubeProxyFile::read(path, u32::try_from(cores).unwrap_or(u32::MAX))?;
    if !file.ignored.is_empty() {
        let keys = file.ignored.join(", ");
        warn!("{}: these keys mean nothing to Weir and change nothing: {keys}", path.display());
    }
    Ok(file)
}

/// Where a setting may be given besides a flag.
struct Given<'a>(Option<&'a Path>);

impl Given<'_> {
    /// What the flag says, else the file's key. That the flag wins is said where it matters.
    fn one<T: PartialEq>(
        &self,
        (flag, of_flag): (&str, Option<T>),
        (key, of_file): (&str, Option<T>),
    ) -> Option<T> {
        if let (Some(path), Some(_), Some(_)) = (self.0, &of_flag, &of_file)
            && of_flag != of_file
        {
            info!("{flag} wins over {key} in {}", path.display());
        }
        of_flag.or(of_file)
    }
}

/// Runs the agent until it is stopped.
///
/// # Errors
///
/// It could not start, or had to stop; what was in the kernel before still is.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(usage) => usage.exit(),
            Err(error) => return Err(error),
        },
    };
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("the agent's loop cannot be set up: report this")?;
    let result = runtime.block_on(agent::run::run(config));
    // A sweep may be under way; nobody waits for it.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// The host's name in lower case, as the kubelet names a node by default.
fn host_name() -> anyhow::Result<String> {
    const FILE: &str = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(FILE).with_context(|| {
        format!("{FILE} cannot be read: give this node's name with --node-name")
    })?;
    Ok(name.trim().to_lowercase())
}

/// Bytes of memory this machine has.
fn memory() -> anyhow::Result<u64> {
    const FILE: &str = "/proc/meminfo";
    let text = std::fs::read_to_string(FILE)
        .with_context(|| format!("{FILE} cannot be read: mount /proc"))?;
    memory_of(&text)
        .with_context(|| format!("{FILE} has no line MemTotal: mount /proc of this kernel"))
}

fn memory_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        Line::try_parse_from(["weir"].into_iter().chain(words.split_whitespace()))
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_but_the_source_has_a_default() {
        let config = parse("--manifests a.yaml").unwrap().config().unwrap();
        assert_eq!(config.origin, Origin::Manifests(vec!["a.yaml".into()]));
        assert!(!config.node_name.is_empty());
        assert_eq!(config.network_devices, None);
        assert_eq!(config.xdp, XdpMode::Auto);
        assert_eq!(config.nodeport_addresses, NodePortAddresses::Primary);
        assert_eq!(config.external_ips, ExternalIps::Honour);
        assert!(config.pin_directory.starts_with("/sys/fs/bpf/weir"));
    }

    #[test]
    fn flags_reach_the_settings() {
        let config = parse(
            "--manifests a --manifests b --node-name n --network-devices eth0,ens* \
             --pod-devices veth* --xdp off --nodeport-addresses 10.0.0.0/8,fd00::/8 \
             --external-ips ignore --connection-table-size 40000 --frontend-table-size 2000 --bpffs /run/bpf",
        )
        .unwrap()
        .config()
        .unwrap();
        assert_eq!(config.origin, Origin::Manifests(vec!["a".into(), "b".into()]));
        assert_eq!(config.node_name, "n");
        assert!(config.network_devices.unwrap().contains("ens1"));
        assert!(config.pod_devices.unwrap().contains("veth7"));
        assert_eq!(config.xdp, XdpMode::Off);
        assert_eq!(config.nodeport_addresses.to_string(), "10.0.0.0/8,fd00::/8");
        assert_eq!(config.external_ips, ExternalIps::Ignore);
        assert_eq!(config.capacities.connections, 80_000);
        assert_eq!(config.capacities.frontends, 2000);
        assert!(config.pin_directory.starts_with("/run/bpf/weir"));
    }

    #[test]
    fn flags_win_over_kube_proxys_configuration_which_wins_over_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
hostnameOverride: of-the-file
clientConnection: {kubeconfig: /of/the/file}
healthzBindAddress: 127.0.0.1:1000
metricsBindAddress: 127.0.0.1:2000
iptables: {syncPeriod: 10s}
nodePortAddresses: [10.0.0.0/8]
";
        std::fs::write(&path, text).unwrap();
        let flags = format!(
            "--manifests a --config {} --node-name of-the-flag --metrics-bind-address 127.0.0.1",
            path.display()
        );
        let config = parse(&flags).unwrap().config().unwrap();
        assert_eq!(config.node_name, "of-the-flag");
        assert_eq!(config.servers.healthz.to_string(), "127.0.0.1:1000");
        assert_eq!(config.servers.metrics.to_string(), "127.0.0.1:10249");
        assert_eq!(config.servers.late_after.as_secs(), 20);
        assert_eq!(config.nodeport_addresses.to_string(), "10.0.0.0/8");
        assert_eq!(config.to_json()["weir"]["node-name"], "of-the-flag");
        let flags = format!("--config {}", path.display());
        let config = parse(&flags).unwrap().config().unwrap();
        assert_eq!(config.node_name, "of-the-file");
        let access = Access { kubeconfig: Some("/of/the/file".into()), server: None };
        assert_eq!(config.origin, Origin::Kubernetes(access));
        assert_eq!(parse("--manifests a").unwrap().config().unwrap().servers, Servers::default());
    }

    #[test]
    fn a_run_without_a_source_is_refused_by_the_flags_that_are_missing() {
        let error = parse("").unwrap().config().unwrap_err().to_string();
        assert!(error.contains("--kubeconfig FILE, or --manifests FILE|DIR"), "{error}");
        assert!(parse("--manifests a --kubeconfig b").unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn an_api_server_is_reached_by_a_kubeconfig_or_at_a_given_address() {
        let config = parse("--kubeconfig k --master https://10.0.0.1:6443").unwrap().config();
        let access =
            Access { kubeconfig: Some("k".into()), server: Some("https://10.0.0.1:6443".into()) };
        assert_eq!(config.unwrap().origin, Origin::Kubernetes(access));
    }

    #[test]
    fn wrong_values_are_refused_with_what_to_write() {
        for (words, hint) in [
            ("--manifests a --xdp fast", "auto, native, generic, off"),
            ("--manifests a --network-devices eth0,", "as in eth0,ens*"),
            ("--manifests a --nodeport-addresses all", "ADDRESS/LENGTH"),
            ("--manifests a --slot-table-size 5", "1024"),
            ("--manifests a --healthz-bind-address everywhere", "0.0.0.0:10256"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn memory_is_read_in_kibibytes() {
        assert_eq!(memory_of("MemTotal:       24 kB\nMemFree: 1 kB\n"), Some(24 * 1024));
        assert_eq!(memory_of("MemFree: 1 kB\n"), None);
    }
}
