//! `weir check` on a node that is to move from kube-proxy to Weir.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::control_plane::stage::Stage;
use weir_tests::lab::Node;

#[test]
fn check_finds_kube_proxy_at_work_and_the_rules_it_leaves() -> Result<()> {
    let Some(stage) = Stage::set(Proxy::KubeProxy)? else {
        return Ok(());
    };
    let Stage { running, control_plane, lab, .. } = stage;
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
