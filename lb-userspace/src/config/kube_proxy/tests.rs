use super::*;

/// What kubeadm 1.36 puts into the ConfigMap kube-proxy.
const KUBEADM: &str = r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

/// One as written by hand, or by k3s with `--kube-proxy-arg` turned into a file.
const BY_HAND: &str = r#"---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
hostnameOverride: node-1
bindAddress: "::"
bindAddressHardFail: true
healthzBindAddress: 192.0.2.1
metricsBindAddress: 0.0.0.0:9000
clientConnection: {kubeconfig: /var/lib/rancher/k3s/agent/kubeproxy.kubeconfig, qps: 5}
mode: nftables
nftables: {syncPeriod: 1m30s, masqueradeAll: true}
iptables: {syncPeriod: 10s}
conntrack: {maxPerCore: 1000, min: 3000, tcpEstablishedTimeout: 24h0m0s}
nodePortAddresses: [192.0.2.0/24, "2001:db8::/64"]
featureGates: {Some: true}
oomScoreAdj: -998
"#;

fn parse(text: &str) -> Result<KubeProxyFile, String> {
    KubeProxyFile::parse(text, 4).map_err(|mistake| format!("{}: {}", mistake.line, mistake.reason))
}

fn with(lines: &str) -> Result<KubeProxyFile, String> {
    parse(&format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{lines}\n"
    ))
}

#[test]
fn kubeadms_file_leaves_all_defaults_and_names_only_what_it_sets() {
    let mut file = parse(KUBEADM).unwrap();
    let ignored = std::mem::take(&mut file.ignored);
    assert_eq!(ignored, ["clusterCIDR"]);
    let kubeconfig = Some(PathBuf::from("/var/lib/kube-proxy/kubeconfig.conf"));
    assert_eq!(file, KubeProxyFile { kubeconfig, ..KubeProxyFile::default() });
}

#[test]
fn what_means_something_is_taken_and_the_rest_is_named() {
    let file = parse(BY_HAND).unwrap();
    let listen = |text: &str| Some(Listen(Some(text.parse().unwrap())));
    assert_eq!(file.node_name.as_deref(), Some("node-1"));
    assert_eq!(file.healthz, listen("192.0.2.1:10256"));
    assert_eq!(file.metrics, listen("0.0.0.0:9000"));
    assert!(file.must_bind);
    assert_eq!(file.nodeport_addresses.unwrap().to_string(), "192.0.2.0/24,2001:db8::/64");
    assert_eq!(
        file.kubeconfig.as_deref(),
        Some(Path::new("/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig"))
    );
    assert_eq!(file.conntrack, Some(4000));
    assert_eq!(file.sync_period, Some(Duration::from_secs(90)));
    assert_eq!(
        file.ignored,
        [
            "clientConnection.qps",
            "conntrack.tcpEstablishedTimeout",
            "featureGates.Some",
            "iptables.syncPeriod",
            "mode",
            "nftables.masqueradeAll",
            "oomScoreAdj",
        ]
    );
}

#[test]
fn a_bind_address_of_ipv6_moves_the_servers_there() {
    let file = with("bindAddress: '::'").unwrap();
    assert_eq!(file.healthz, Some(Listen::parse("[::]:10256", 0).unwrap()));
    assert_eq!(file.metrics, Some(Listen::parse("[::1]:10249", 0).unwrap()));
    assert_eq!(with("bindAddress: 0.0.0.0").unwrap().healthz, None);
    assert_eq!(with("healthzBindAddress: 0.0.0.0:0").unwrap().healthz, Some(Listen(None)));
}

#[test]
fn the_connection_table_is_as_large_as_conntracks_would_be() {
    let flows = |conntrack: &str| with(&format!("conntrack: {conntrack}")).unwrap().conntrack;
    assert_eq!(flows("{maxPerCore: 32768, min: 131072}"), Some(131_072));
    assert_eq!(flows("{maxPerCore: 0, min: 131072}"), None);
    assert_eq!(flows("{maxPerCore: 1000000}"), Some(1 << 20));
    assert_eq!(flows("{}"), None);
}

#[test]
fn a_malformed_file_is_refused_with_the_line_and_what_to_do() {
    for (lines, line, hint) in [
        ("mode: [", "3:", "correct it"),
        ("bindAddressHardFail: perhaps", "3:", "correct it"),
        ("healthzBindAddress: nowhere", "3:", "ADDRESS:PORT"),
        ("mode: ''\nnodePortAddresses:\n- 10.0.0.0/8\n- any", "6:", "ADDRESS/LENGTH"),
        ("iptables:\n  syncPeriod: soon", "4:", "30s"),
        ("conntrack: {maxPerCore: -1}", "3:", "correct it"),
    ] {
        let error = with(lines).unwrap_err();
        assert!(error.starts_with(line) && error.contains(hint), "{lines:?}: {error}");
    }
}

#[test]
fn a_file_of_another_kind_is_refused_with_the_kind_that_is_read() {
    let error = parse("kind: KubeletConfiguration\napiVersion: kubeproxy.config.k8s.io/v1alpha1\n");
    assert!(error.unwrap_err().contains("1: kind is \"KubeletConfiguration\""));
    assert!(parse("{}").unwrap_err().contains("apiVersion is missing"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = Path::new("/nonexistent/kube-proxy.yaml");
    let error = KubeProxyFile::read(path, 1).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/kube-proxy.yaml") && error.contains("--config"));
}
