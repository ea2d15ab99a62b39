//! The API server goes away and comes back, and its store is put back to an older state: traffic goes
//! on all the while, and the server's last state is served.

use anyhow::{Result, bail, ensure};
use weir_tests::agent::weir;
use weir_tests::control_plane::ControlPlane;
use weir_tests::control_plane::fixture::{Fixture, TIMEOUT};
use weir_tests::control_plane::proxy::{Proxy, Running};
use weir_tests::fixture::ServedBy;
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::requires;
use weir_tests::wait::until;

#[test]
fn traffic_goes_on_while_the_api_server_is_gone_and_changes_count_when_it_is_back() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Proxy::Weir)? else {
        return Ok(());
    };
    fixture.control_plane.kill_api_server();
    for served in ServedBy::ALL {
        fixture.until_offered(&served.offer(&fixture.lab))?;
    }
    fixture.running.check_running()?;
    fixture.control_plane.start_api_server()?;
    let mut offer = ServedBy::AllPods.offer(&fixture.lab);
    offer.pods.truncate(2);
    fixture.offer(&offer)?;
    let fresh = Offer { name: "fresh", number: 20, ..offer };
    fixture.offer(&fresh)
}

/// kube-proxy goes on with what it knew until the server has counted up to where it was before: a
/// watch from a revision that is yet to come is no error, it is silent. So this is Weir's alone.
#[test]
fn a_store_put_back_to_an_older_state_is_believed() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Proxy::Weir)? else {
        return Ok(());
    };
    fixture.control_plane.back_up()?;
    let before = ServedBy::AllPods.offer(&fixture.lab);
    let after = Offer { pods: before.pods[..1].to_vec(), ..before.clone() };
    fixture.offer(&after)?;
    let fresh = Offer { name: "fresh", number: 20, pods: after.pods.clone() };
    fixture.offer(&fresh)?;
    fixture.control_plane.restore()?;
    let before = ServedBy::AllPods.offer(&fixture.lab);
    fixture.until_offered(&before)?;
    let fresh = Offer { name: "fresh", number: 20, pods: before.pods };
    fixture.flows(&fresh).iter().try_for_each(|flow| fixture.until_unserved(flow))
}

/// The kubelet is known by another name: traffic goes on, and the log says what to give.
#[test]
fn a_node_name_that_no_node_has_is_named() -> Result<()> {
    let Some((lab, programs)) = requires::control_plane(Proxy::Weir, Shape::default())? else {
        return Ok(());
    };
    let control_plane = ControlPlane::start(&lab, programs)?;
    control_plane.api.join(&lab.node2)?;
    let Running::Weir(mut agent) = Proxy::Weir.start(&lab.node1, &control_plane)? else {
        bail!("it is Weir");
    };
    agent.wait_for("Node node1: none of the cluster's Nodes has this name (they have node2)")?;
    let status = weir(&lab.node1, &["show", "status"])?;
    ensure!(status.contains("warning: Node node1: none of"), "{status}");
    control_plane.api.join(&lab.node1)?;
    until("the warning is over", TIMEOUT, || {
        let status = weir(&lab.node1, &["show", "status"])?;
        ensure!(!status.contains("none of the cluster's Nodes"), "{status}");
        Ok(())
    })
}
