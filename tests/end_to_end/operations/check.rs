//! `weir check` finds what of a node would cost Services their traffic, and says what mends it: firewalls
//! that let pass what kube-proxy has translated and nothing else, and others with a hand in the packets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Namespace, Node, Shape};
use weir_tests::requires;
use weir_tests::traffic::{AttemptResult, attempt};

/// The pods of all nodes.
const PODS: [(Family, &str); 2] = [(Family::V4, "10.244.0.0/16"), (Family::V6, "fd44::/16")];

#[test]
fn a_firewall_that_accepts_what_kube_proxy_translates_rejects_node_ports_until_it_accepts_pods()
-> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    node.namespace.output(
        "nft",
        &["add table inet fw; \
           add chain inet fw forward { type filter hook forward priority filter; }; \
           add rule inet fw forward ct state established,related accept; \
           add rule inet fw forward ct status dnat accept; \
           add rule inet fw forward reject"],
    )?;
    for family in Family::ALL {
        let result = node_port(&fixture, family, Protocol::UDP)?;
        ensure!(result == AttemptResult::Refused, "{family:?}: {result:?}");
        let result = node_port(&fixture, family, Protocol::TCP)?;
        ensure!(result != AttemptResult::Replied, "{family:?}: a connection is accepted");
    }
    let finding = finding(node, "firewall")?;
    expect(&finding, "warn", "chain forward of nftables table inet fw may drop")?;
    let advice = finding["advice"].as_str().context("no advice")?;
    for (family, pods) in PODS {
        let protocol = if family == Family::V4 { "ip" } else { "ip6" };
        for direction in ["daddr", "saddr"] {
            let command =
                format!("insert rule inet fw forward {protocol} {direction} POD_CIDR accept");
            ensure!(advice.contains(&command), "no {command}: {advice}");
            node.namespace.output("nft", &[&command.replace("POD_CIDR", pods)])?;
        }
        let result = node_port(&fixture, family, Protocol::UDP)?;
        ensure!(result == AttemptResult::Replied, "{family:?}: {result:?}");
    }
    fixture.check_traffic()?;
    expect(&self::finding(node, "firewall")?, "ok", "accepted to 10.244.0.0/16, to fd44::/16")
}

#[test]
fn a_policy_of_iptables_drops_node_ports_until_pods_are_accepted() -> Result<()> {
    policy_drop(["iptables-nft", "ip6tables-nft"], "nftables")
}

#[test]
fn a_policy_of_the_older_iptables_drops_node_ports_until_pods_are_accepted() -> Result<()> {
    policy_drop(["iptables-legacy", "ip6tables-legacy"], "iptables")
}

#[test]
fn a_node_of_one_family_without_a_default_route_passes() -> Result<()> {
    for family in Family::ALL {
        let Some(lab) = requires::lab(Shape::default())? else {
            return Ok(());
        };
        let node = &lab.node1;
        match family {
            Family::V4 => {
                for name in ["forwarding=0", "disable_ipv6=1"] {
                    let setting = format!("net.ipv6.conf.all.{name}");
                    node.namespace.output("sysctl", &["-q", "-w", &setting])?;
                }
            }
            Family::V6 => {
                node.namespace.output("sysctl", &["-q", "-w", "net.ipv4.ip_forward=0"])?;
                node.namespace.output("ip", &["-4", "address", "flush", "dev", "eth0"])?;
            }
        }
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        node.namespace.output("ip", &[flag, "route", "delete", "default"])?;
        let findings = findings(node)?;
        for about in ["IPv4 forwarding", "IPv6 forwarding", "firewall", "eth0"] {
            let finding = findings.iter().find(|finding| finding["about"] == about);
            let finding =
                finding.with_context(|| format!("nothing about {about}: {findings:?}"))?;
            expect(finding, "ok", "")?;
        }
    }
    Ok(())
}

#[test]
fn others_that_translate_packets_and_a_strict_filter_are_found() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let node = &lab.node1;
    for name in ["cilium_host", "kube-ipvs0", "unused"] {
        node.namespace.output("ip", &["link", "add", name, "type", "bridge"])?;
    }
    for setting in ["all.rp_filter=0", "eth0.rp_filter=0", "pod1.rp_filter=1", "unused.rp_filter=1"]
    {
        let setting = format!("net.ipv4.conf.{setting}");
        node.namespace.output("sysctl", &["-q", "-w", &setting])?;
    }
    expect(&finding(node, "Cilium")?, "warn", "device cilium_host")?;
    expect(&finding(node, "IPVS")?, "warn", "the device kube-ipvs0")?;
    let strict = finding(node, "reverse path filter")?;
    ensure!(strict["found"] == "strict on pod1", "{strict}");
    node.namespace.output("sysctl", &["-q", "-w", "net.ipv4.conf.all.rp_filter=2"])?;
    expect(&finding(node, "reverse path filter")?, "ok", "not strict")
}

/// The policy of each family's tool, and what the advice says on it.
fn policy_drop(tools: [&str; 2], filter: &str) -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    for ((family, pods), tool) in PODS.into_iter().zip(tools) {
        if !has_tables(&node.namespace, tool)? {
            return Ok(());
        }
        ensure!(
            node_port(&fixture, family, Protocol::UDP)? == AttemptResult::Replied,
            "{family:?}"
        );
        node.namespace.output(tool, &["-P", "FORWARD", "DROP"])?;
        ensure!(
            node_port(&fixture, family, Protocol::UDP)? == AttemptResult::NoReply,
            "{family:?}"
        );
        let table = if family == Family::V4 { "ip filter" } else { "ip6 filter" };
        let found = format!("chain FORWARD of {filter} table {table} ");
        let finding = findings(node)?.into_iter().rfind(|finding| finding["about"] == "firewall");
        let finding = finding.context("nothing about a firewall")?;
        expect(&finding, "warn", &found)?;
        let advice = finding["advice"].as_str().context("no advice")?;
        let called = tool.trim_end_matches("-nft");
        for flag in ["-d", "-s"] {
            let rule = ["-I", "FORWARD", flag, "POD_CIDR", "-j", "ACCEPT"];
            let command = format!("{called} {}", rule.join(" "));
            ensure!(advice.contains(&command), "no {command}: {advice}");
            let rule = rule.map(|word| if word == "POD_CIDR" { pods } else { word });
            node.namespace.output(tool, &rule)?;
        }
        ensure!(
            node_port(&fixture, family, Protocol::UDP)? == AttemptResult::Replied,
            "{family:?}"
        );
    }
    let all = findings(node)?;
    let firewall: Vec<_> = all.iter().filter(|finding| finding["about"] == "firewall").collect();
    ensure!(firewall.len() == 2, "{firewall:?}");
    firewall
        .into_iter()
        .try_for_each(|finding| expect(finding, "ok", "which must take in all pods"))
}

/// Whether the kernel has the tables of this tool: those of the older iptables can be left out.
fn has_tables(namespace: &Namespace, tool: &str) -> Result<bool> {
    match namespace.output(tool, &["-S", "FORWARD"]) {
        Err(error) if format!("{error:#}").contains("Table does not exist") => {
            requires::skip("needs a kernel with CONFIG_IP_NF_IPTABLES_LEGACY");
            Ok(false)
        }
        result => result.map(|_| true),
    }
}

/// What becomes of a flow to a Service with local backends, from outside at node1's node port. By TCP a
/// rejection may come while the call still has the socket, and then counts only once the SYN is repeated.
fn node_port(fixture: &Fixture, family: Family, protocol: Protocol) -> Result<AttemptResult> {
    let lab = &fixture.lab;
    let port = ServedBy::LocalPods.offer(lab).node_port();
    let frontend = (lab.node1.addresses.of(family), port).into();
    attempt(&lab.client, frontend, protocol, Duration::from_millis(700))
}

/// What `weir check` finds on `node`, which passes.
fn findings(node: &Node) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&weir(node, &["check", "-o", "json"])?)?)
}

/// The first thing that it finds about something.
fn finding(node: &Node, about: &str) -> Result<Value> {
    let findings = findings(node)?;
    let found = findings.iter().find(|finding| finding["about"] == about).cloned();
    found.with_context(|| format!("nothing about {about}: {findings:?}"))
}

/// Checks that a finding is of this level and has `words`, and advice unless all is well.
fn expect(finding: &Value, level: &str, words: &str) -> Result<()> {
    let found = finding["found"].as_str().unwrap_or_default();
    ensure!(finding["level"] == level && found.contains(words), "{finding}");
    ensure!(level == "ok" || finding["advice"].is_string(), "no advice: {finding}");
    Ok(())
}
