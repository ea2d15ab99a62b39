//! A node that moves from kube-proxy to Weir, in the order of `docs/install.md`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::control_plane::stage::Stage;
use weir_tests::lab::Node;
use weir_tests::stage::Served;

#[test]
fn weir_serves_everybody_over_the_rules_that_kube_proxy_has_left_and_after_they_are_gone()
-> Result<()> {
    let Some(stage) = Stage::set(Proxy::KubeProxy)? else {
        return Ok(());
    };
    let Stage { running, servers, control_plane, lab, .. } = stage;
    drop(running);
    let running = Proxy::Weir.start(&lab.node1, &control_plane)?;
    let stage = Stage { running, proxy: Proxy::Weir, servers, control_plane, lab };
    for served in Served::ALL {
        stage.until_offered(&served.offer(&stage.lab))?;
    }
    let mut moved = Served::Here.offer(&stage.lab);
    moved.pods = Served::Elsewhere.offer(&stage.lab).pods;
    stage.offer(&moved)?;
    expect(&stage.lab.node1, RULES, "warn", "nftables table ip kube-proxy")?;
    stage.control_plane.clean_up_after_kube_proxy(&stage.lab.node1)?;
    stage.until_offered(&moved)
}

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
