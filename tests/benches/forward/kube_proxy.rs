//! The rules of kube-proxy, in its nftables mode, for two NodePort Services over UDP. They are written here
//! after those of kube-proxy 1.36, so that no API server is needed.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A Service with one endpoint.
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Its cluster IP and port.
    pub cluster: SocketAddrV4,
    /// Its node port.
    pub node_port: u16,
    /// Its endpoint.
    pub endpoint: SocketAddrV4,
}

/// The chains that every packet or every new connection passes.
const BASE: &str = "\
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nodeport-endpoints-check {
    ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
  }
  chain filter-prerouting {
    type filter hook prerouting priority -110;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority -110;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority -110;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110;
    ct state new jump service-endpoints-check
    ct state new jump firewall-check
  }
  chain filter-output-post-dnat {
    type filter hook output priority -90;
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
";

/// The rules for these Services on the node with this address.
pub fn rules(node: Ipv4Addr, services: &[Service]) -> String {
    let mut ips = Vec::new();
    let mut ports = Vec::new();
    let mut chains = String::new();
    for Service { name, cluster, node_port, endpoint } in services {
        let (ip, port) = (cluster.ip(), cluster.port());
        ips.push(format!("{ip} . udp . {port} : goto service-{name}"));
        ports.push(format!("udp . {node_port} : goto external-{name}"));
        let _ = write!(
            chains,
            "
  chain endpoint-{name} {{
    ip saddr {pod} jump mark-for-masquerade
    meta l4proto udp dnat to {endpoint}
  }}
  chain service-{name} {{
    ip daddr {ip} udp dport {port} ip saddr != 10.244.0.0/16 jump mark-for-masquerade
    numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}
  }}
  chain external-{name} {{
    jump mark-for-masquerade
    goto service-{name}
  }}",
            pod = endpoint.ip(),
        );
    }
    let cluster_ips: Vec<_> = services.iter().map(|one| one.cluster.ip().to_string()).collect();
    format!(
        "table ip kube-proxy {{
  set cluster-ips {{ type ipv4_addr; elements = {{ {cluster_ips} }}; }}
  set nodeport-ips {{ type ipv4_addr; elements = {{ {node} }}; }}
  map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}
  map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  chain mark-for-masquerade {{ meta mark set meta mark | 0x4000; }}
  chain masquerading {{
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }}{chains}
  map service-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {ips} }}
  }}
  map service-nodeports {{
    type inet_proto . inet_service : verdict
    elements = {{ {ports} }}
  }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }}
{BASE}}}
",
        cluster_ips = cluster_ips.join(", "),
        ips = ips.join(", "),
        ports = ports.join(", "),
    )
}
