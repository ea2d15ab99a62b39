//! Load balancers, probes, dashboards and scripts get from Weir what they get from kube-proxy on a node,
//! and it follows what happens.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Node, Shape};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin, probe};

const HEALTH: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10256);
const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10249);

/// How long a response may take to follow what happened.
const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn a_node_is_probed_and_scraped_as_with_kube_proxy() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    for path in ["/healthz", "/livez", "/readyz"] {
        let (status, body) = ask(node, HEALTH, path)?;
        ensure!(status == 200, "{path} responds with {status}: {body}");
    }
    ensure!(ask(node, METRICS, "/proxyMode")? == (200, "weir".to_owned()), "/proxyMode");

    let offer = ServedBy::LocalPods.offer(&fixture.lab);
    // From outside, so that no pod can be chosen for itself, which is counted under another name.
    let frontend = (node.addresses.of(Family::V4), offer.node_port()).into();
    let client = Origin::Outside;
    let before = counted(node, "weir_packets_total{outcome=\"forwarded\"}")?;
    Flow { origin: client, frontend, protocol: Protocol::TCP }.send(&fixture.lab, 1000)?;
    let after = counted(node, "weir_packets_total{outcome=\"forwarded\"}")?;
    ensure!(after > before, "{before} packets forwarded before a request, {after} after it");
    let name = offer.name;
    ensure!(
        counted(
            node,
            &format!("weir_service_packets_total{{namespace=\"default\",service=\"{name}\"}}")
        )? > 0.0,
        "the Service's packets are counted"
    );
    ensure!(counted(node, "weir_map_entries{map=\"BACKENDS_V4\"}")? > 0.0, "backends are counted");
    ensure!(counted(node, "weir_map_read_failures_total")? == 0.0, "every map can be read");

    let synced = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
    let (changes, at) = (
        counted(node, "kubeproxy_sync_proxy_rules_service_changes_total")?,
        counted(node, synced)?,
    );
    fixture.manifests.offer(&Offer { name: "late", number: 15, pods: vec![&node.pods[0]] })?;
    let deadline = Instant::now() + TIMEOUT;
    while counted(node, synced)? == at {
        ensure!(Instant::now() < deadline, "{synced} is still {at} after a change");
    }
    ensure!(
        counted(node, "kubeproxy_sync_proxy_rules_service_changes_total")? > changes,
        "the new Service is counted"
    );
    Ok(())
}

/// The value of a series.
fn counted(node: &Node, series: &str) -> Result<f64> {
    let (_, text) = ask(node, METRICS, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {series} in\n{text}"))?.parse()?)
}

/// Status and body of the response of `server` on `node`.
fn ask(node: &Node, server: SocketAddr, path: &str) -> Result<(u16, String)> {
    let response = probe(&node.namespace, server, &format!("GET {path}"))?;
    Ok((response.status()?, response.text()))
}
