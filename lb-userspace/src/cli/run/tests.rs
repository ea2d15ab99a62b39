//! The configuration that flags and files make.

use clap::Parser;

use super::*;
use crate::config::{ExternalIps, SocketBalancing, XdpMode};
use crate::plan::NodePortAddresses;

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
    assert_eq!((config.socket_balancing, config.cgroup), (SocketBalancing::Host, None));
    assert_eq!(config.nodeport_addresses, NodePortAddresses::default());
    assert_eq!(config.external_ips, ExternalIps::Honour);
    assert!(config.pin_directory.starts_with("/sys/fs/bpf/weir"));
}

#[test]
fn flags_reach_the_settings() {
    let config = parse(
        "--manifests a --manifests b --node-name n --network-devices eth0,ens* \
         --pod-devices veth* --xdp off --nodeport-addresses 10.0.0.0/8,fd00::/8 \
         --external-ips ignore --socket-balancing all --cgroup /run/cgroup --conntrack-table-size 40000 --frontend-table-size 2000 --bpffs /run/bpf",
    )
    .unwrap()
    .config()
    .unwrap();
    assert_eq!(config.origin, Origin::Manifests(vec!["a".into(), "b".into()]));
    assert_eq!(config.node_name, "n");
    assert!(config.network_devices.unwrap().contains("ens1"));
    assert!(config.pod_devices.unwrap().contains("veth7"));
    assert_eq!(config.xdp, XdpMode::Off);
    assert_eq!(config.socket_balancing, SocketBalancing::All);
    assert_eq!(config.cgroup, Some("/run/cgroup".into()));
    assert_eq!(config.nodeport_addresses.to_string(), "10.0.0.0/8,fd00::/8");
    assert_eq!(config.external_ips, ExternalIps::Ignore);
    assert_eq!(config.capacities.conntrack, 80_000);
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
        ("--manifests a --nodeport-addresses any", "ADDRESS/LENGTH"),
        ("--manifests a --slot-table-size 5", "1024"),
        ("--manifests a --backend-table-size 1048576", "1048575"),
        ("--manifests a --healthz-bind-address everywhere", "0.0.0.0:10256"),
    ] {
        let error = parse(words).unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
}
