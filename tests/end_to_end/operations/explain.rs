//! What `weir explain` says about a process's call, or about a client's packet, is what happens to it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::agent::{Agent, weir};
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Shape, addresses};
use weir_tests::manifests::{Manifests, Offer, Rules};
use weir_tests::requires;
use weir_tests::traffic::{self, AttemptResult, attempt};

use crate::addresses::host_policies::{gets, rejected};
use crate::addresses::host_processes::{of_family, start};

#[test]
fn a_call_is_explained_before_it_is_made() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let (lab, offer) = (&fixture.lab, ServedBy::AllPods.offer(&fixture.lab));
    let nobody = Offer { name: "nobody", number: 38, pods: Vec::new() };
    fixture.manifests.offer(&nobody)?;
    let closed = Offer { name: "closed", number: 39, pods: lab.node2.pods.iter().collect() };
    let spec = vec!["internalTrafficPolicy: Local"];
    fixture.manifests.offer_under(&closed, &Rules { spec, ..Rules::default() })?;
    for family in Family::ALL {
        let [dropped, node_port] = of_family(lab, &closed, family);
        gets(lab, node_port, AttemptResult::Replied)?;
        for protocol in ["tcp", "udp"] {
            let silent = ["passed-left-to-tc", "egress, eth0", "dropped-no-local-endpoint"];
            explained(lab, dropped, protocol, &silent)?;
        }
        let [dead, _] = of_family(lab, &nobody, family);
        gets(lab, dead, rejected())?;
        let fails = ["rejected-no-endpoint", "the call fails with ECONNREFUSED"];
        explained(lab, dead, "tcp", &fails)?;
        // Packets to a cluster IP are translated where they leave.
        explained(
            lab,
            dead,
            "udp",
            &["passed-left-to-tc", "egress, eth0", "rejected-no-endpoint"],
        )?;
        let [cluster_ip, _] = of_family(lab, &offer, family);
        explained(lab, cluster_ip, "udp", &["passed-left-to-tc", "forwarded-from-host"])?;
        for frontend in of_family(lab, &offer, family) {
            let cgroup = lab.node1.cgroup.as_ref().context("a node with a control group")?;
            let hook = format!("connect, cgroup {}", cgroup.display());
            explained(
                lab,
                frontend,
                "tcp",
                &["source class host: an address of this node", &hook, "socket-connected"],
            )?;
        }
    }
    Ok(())
}

/// Checks that the trace of a call of a process of node1 to `end` has all of `words`.
fn explained(lab: &Lab, end: SocketAddr, protocol: &str, words: &[&str]) -> Result<()> {
    let own = lab.node1.addresses.of(Family::of(&end.ip())).to_string();
    let trace = weir(&lab.node1, &["explain", &own, &format!("{end}/{protocol}")])?;
    has(&trace, words)
}

/// Addresses of a node's second device that the agent is told to leave alone, and of the client behind it.
const LEFT_ALONE: [[&str; 2]; 2] = [["172.31.0.11", "172.31.0.1"], ["fd31::11", "fd31::1"]];

#[test]
fn a_client_behind_a_device_without_programs_is_not_seen() -> Result<()> {
    let Some(lab) = requires::lab(Shape::default())? else {
        return Ok(());
    };
    let (node, offer) = (&lab.node1, ServedBy::LocalPods.offer(&lab));
    let _servers = traffic::serve(&lab)?;
    let manifests = Manifests::nodes(&lab)?;
    manifests.offer(&offer)?;
    add_client_behind_second_device(&lab)?;
    let _agent = Agent::start(node, &manifests, &["--network-devices", "eth0"])?;
    for [own, client] in LEFT_ALONE {
        let to = SocketAddr::new(own.parse()?, offer.node_port());
        let result = attempt(&lab.client, to, Protocol::TCP, Duration::from_secs(1))?;
        ensure!(result != AttemptResult::Replied, "{to} is served: {result:?}");
        let trace = weir(node, &["explain", client, &format!("{to}/tcp")])?;
        let words = [
            "verdict: not seen by Weir: eth1 has no programs (not among --network-devices",
            "delivered to a local process",
            "`weir show devices`",
            "`--network-devices eth1`",
        ];
        has(&trace, &words)?;
    }
    for family in Family::ALL {
        let to = SocketAddr::new(node.addresses.of(family), offer.node_port());
        let trace = weir(
            node,
            &["explain", &addresses::CLIENT.of(family).to_string(), &format!("{to}/tcp")],
        )?;
        has(&trace, &["verdict: forwarded", "ingress, network device eth0:"])?;
    }
    Ok(())
}

fn add_client_behind_second_device(lab: &Lab) -> Result<()> {
    let node = &lab.node1.namespace;
    let [[v4, client_v4], [v6, client_v6]] = LEFT_ALONE;
    lab.client.ip(&format!(
        "link add second type veth peer name eth1 netns {}
         link set second up
         addr add {client_v4}/24 dev second
         addr add {client_v6}/64 dev second
        ",
        node.name()
    ))?;
    node.ip(&format!(
        "link set eth1 up
         addr add {v4}/24 dev eth1
         addr add {v6}/64 dev eth1
        "
    ))
}

/// Checks that `trace` has all of `words`.
fn has(trace: &str, words: &[&str]) -> Result<()> {
    let missing = words.iter().find(|word| !trace.contains(**word));
    ensure!(missing.is_none(), "{missing:?} is not in:\n{trace}");
    Ok(())
}
