//! The flags of `weir run`.

use std::path::PathBuf;

use lb_common::backend::BackendId;

use crate::cli::pins::Pins;
use crate::config::{DatapathLog, DeviceNames, ExternalIps, Listen, SocketBalancing, XdpMode};
use crate::plan::{NodePortAddresses, Skip};

/// Runs the agent: load-balances this node's Services until stopped. Programs and maps stay, and traffic
/// goes on.
#[derive(clap::Args, Clone, PartialEq, Debug)]
#[command(after_help = "\
Examples:
  weir run --manifests services.yaml
      Find the devices, serve the Services of the file, follow its changes.
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
    /// names changes. Its proxy-url, else HTTPS_PROXY and NO_PROXY, say whether the server is called through a
    /// proxy [default: the service account, in a pod that has one]
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, in place of the kubeconfig's or the environment's, as in
    /// https://10.0.0.10:6443. Give one in a pod: the environment names the ClusterIP of the Service
    /// `kubernetes`, which does not work before Weir runs
    #[arg(long, value_name = "URL", conflicts_with = "manifests")]
    pub master: Option<String>,
    /// kube-proxy's configuration file (KubeProxyConfiguration). Fields that mean nothing to Weir are
    /// named in a warning. Flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this node, as its Node object has it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Devices that face the network, by name or pattern [default: those with the default route or a
    /// node address, and tunnels]
    #[arg(long, value_name = "GLOB,..")]
    pub network_devices: Option<DeviceNames>,
    /// Devices that face pods, by name or pattern [default: veth and netkit devices whose peer is
    /// in another network namespace]
    #[arg(long, value_name = "GLOB,..")]
    pub pod_devices: Option<DeviceNames>,
    /// Which network devices get XDP in front of TC
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub xdp: XdpMode,
    /// Whose sockets get a backend at connect and sendmsg
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub socket_balancing: SocketBalancing,
    /// Directory of the cgroup v2 whose processes' sockets are balanced [default: the root of the
    /// mounted hierarchy]
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Addresses of this node that serve node ports: `primary` (in each family the Node object's first, else the
    /// first network device's), `localhost` (127.0.0.1 and ::1, for this node's own processes), `all`, and prefixes;
    /// where there are prefixes alone, a family without one is not restricted [default: primary]
    #[arg(long, value_name = "primary|localhost|all|CIDR,..")]
    pub nodeport_addresses: Option<NodePortAddresses>,
    /// What to leave to others: Services as NAMESPACE/NAME, addresses or ranges of frontends. What listens at a cluster
    /// IP that a device of this node has, such as NodeLocal DNSCache, is left alone without it
    #[arg(long, value_name = "SERVICE|ADDRESS,..")]
    pub skip: Option<Skip>,
    /// Whether to serve externalIPs. Anyone who can edit Services can hijack traffic with them
    #[arg(long, value_enum, default_value_t, value_name = "honour|ignore")]
    pub external_ips: ExternalIps,
    /// Address of /healthz, /livez and /readyz, for load balancers and probes; empty for none
    /// [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = Listen::healthz)]
    pub healthz_bind_address: Option<Listen>,
    /// Address of /metrics, /proxyMode and /configz; empty for none [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = Listen::metrics)]
    pub metrics_bind_address: Option<Listen>,
    /// Log the walks of packets, for a closer look: `debug` a line a walk with its outcome, `trace` each
    /// step; at most 100 walks a second and CPU
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub datapath_log: DatapathLog,
    /// Where pins live.
    #[command(flatten)]
    pub pins: Pins,
    /// Sizes of the maps.
    #[command(flatten, next_help_heading = "Sizes")]
    pub sizes: Sizes,
}

/// Sizes of the maps. Those that are pinned get the sizes said here when the agent starts, while traffic goes on; where
/// nothing is said they keep theirs, and new ones get the default.
#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sizes {
    /// Established flows per address family [default: 0.25 % of the memory,
    /// 32768 to 1048576]
    #[arg(long, value_name = "N", value_parser = size())]
    pub conntrack_table_size: Option<u32>,
    /// Frontends (address, port, protocol) per address family, and Service ports [default: 65536]
    #[arg(long, value_name = "N", value_parser = size())]
    pub frontend_table_size: Option<u32>,
    /// Backends (Service port, address) per address family [default: by the memory, 32768 to 131072]
    #[arg(long, value_name = "N", value_parser = backends())]
    pub backend_table_size: Option<u32>,
    /// Slots of all pools together [default: by the memory, 262144 to 4194304]
    #[arg(long, value_name = "N", value_parser = size())]
    pub slot_table_size: Option<u32>,
    /// Clients with session affinity per address family [default: 32768]
    #[arg(long, value_name = "N", value_parser = size())]
    pub affinity_table_size: Option<u32>,
}

/// A table of fewer entries could not hold a small cluster; one of more would not fit in 32 bits
/// once it is counted in bytes.
fn size() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1024..=1 << 26)
}

/// As [`size`], and the conntrack tables keep a backend's id in 20 bits.
fn backends() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1024..=i64::from(BackendId::END))
}
