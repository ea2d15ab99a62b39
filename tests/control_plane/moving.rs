//! A node that moves from kube-proxy to Weir, in the order of `docs/install.md`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::control_plane::fixture::Fixture;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::Node;

#[test]
fn weir_serves_everybody_over_the_rules_that_kube_proxy_has_left_and_after_they_are_gone()
-> Result<()> {
    let Some(fixture) = Fixture::start(Proxy::KubeProxy)? else {
        return Ok(());
    };
    let Fixture { running, servers, control_plane, lab, .. } = fixture;
    drop(running);
    let running = Proxy::Weir.start(&lab.node1, &control_plane)?;
    let fixture = Fixture { running, proxy: Proxy::Weir, servers, control_plane, lab };
    for served in ServedBy::ALL {
        fixture.until_offered(&served.offer(&fixture.lab))?;
    }
    let mut moved = ServedBy::LocalPods.offer(&fixture.lab);
    moved.pods = ServedBy::RemotePods.offer(&fixture.lab).pods;
    fixture.offer(&moved)?;
    expect(&fixture.lab.node1, RULES, "warn", "nftables table ip kube-proxy")?;
    fixture.control_plane.clean_up_after_kube_proxy(&fixture.lab.node1)?;
    fixture.until_offered(&moved)
}

#[test]
fn check_finds_kube_proxy_at_work_and_the_rules_it_leaves() -> Result<()> {
    let Some(fixture) = Fixture::start(Proxy::KubeProxy)? else {
        return Ok(());
    };
    let Fixture { running, control_plane, lab, .. } = fixture;
    let node = &lab.node1;
    expect(node, "kube-proxy", "warn", "it runs here")?;
    expect(node, RULES, "warn", "nftables table ip kube-proxy, nftables table ip6 kube-proxy")?;
    drop(running);
    expect(node, RULES, "warn", "nftables table ip kube-proxy, nftables table ip6 kube-proxy")?;
    control_plane.clean_up_after_kube_proxy(node)?;
    expect(node, RULES, "ok", "no trace of them")?;
    node.namespace.output("iptables", &["-t", "nat", "-N", "KUBE-SERVICES"])?;
    expect(node, RULES, "warn", "chain KUBE-SERVICES in")
}

const RULES: &str = "kube-proxy's rules";

/// Checks that `weir check` on `node` finds `words` about `about`, and takes it for `level`.
fn expect(node: &Node, about: &str, level: &str, words: &str) -> Result<()> {
    let findings: Vec<Value> = serde_json::from_str(&weir(node, &["check", "-o", "json"])?)?;
    let finding = findings.iter().find(|finding| finding["about"] == about);
    let finding = finding.with_context(|| format!("nothing about {about}: {findings:?}"))?;
    let found = finding["found"].as_str().unwrap_or_default();
    ensure!(finding["level"] == level && found.contains(words), "{finding}");
    ensure!(level == "ok" || finding["advice"].is_string(), "no advice: {finding}");
    Ok(())
}
