//! What `weir explain` says about a process's call is what happens to it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::agent::weir;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::Offer;

use crate::addresses::host_processes::{gets, of_family, rejected, start};

#[test]
fn a_call_is_explained_before_it_is_made() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let (lab, offer) = (&fixture.lab, ServedBy::AllPods.offer(&fixture.lab));
    let nobody = Offer { name: "nobody", number: 38, pods: Vec::new() };
    fixture.manifests.offer(&nobody)?;
    for family in Family::ALL {
        let [dead, _] = of_family(lab, &nobody, family);
        gets(lab, dead, rejected())?;
        explained(lab, dead, &["rejected-no-endpoint", "the call fails with ECONNREFUSED"])?;
        for frontend in of_family(lab, &offer, family) {
            let cgroup = lab.node1.cgroup.as_ref().context("a node with a control group")?;
            let hook = format!("connect, cgroup {}", cgroup.display());
            explained(
                lab,
                frontend,
                &["source class host: an address of this node", &hook, "socket-connected"],
            )?;
        }
    }
    Ok(())
}

/// Checks that the trace of a call of a process of node1 to `end` has all of `words`.
fn explained(lab: &Lab, end: SocketAddr, words: &[&str]) -> Result<()> {
    let own = lab.node1.addresses.of(Family::of(&end.ip())).to_string();
    let trace = weir(&lab.node1, &["explain", &own, &format!("{end}/udp")])?;
    let missing = words.iter().find(|word| !trace.contains(**word));
    ensure!(missing.is_none(), "{missing:?} is not in:\n{trace}");
    Ok(())
}
