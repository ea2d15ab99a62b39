//! The API server goes away and comes back, and its store is put back to an older state: traffic goes
//! on all the while, and what the server says at last is what counts.

use anyhow::Result;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::control_plane::stage::Stage;
use weir_tests::manifests::Offer;
use weir_tests::stage::Served;

#[test]
fn traffic_goes_on_while_the_api_server_is_gone_and_changes_count_when_it_is_back() -> Result<()> {
    let Some(mut stage) = Stage::set(Proxy::Weir)? else {
        return Ok(());
    };
    stage.control_plane.kill_api_server();
    for served in Served::ALL {
        stage.until_offered(&served.offer(&stage.lab))?;
    }
    stage.running.check_running()?;
    stage.control_plane.start_api_server()?;
    let mut offer = Served::Everywhere.offer(&stage.lab);
    offer.pods.truncate(2);
    stage.offer(&offer)?;
    let fresh = Offer { name: "fresh", number: 20, ..offer };
    stage.offer(&fresh)
}

/// kube-proxy goes on with what it knew until the server has counted up to where it was before: a
/// watch from a revision that is yet to come is no error, it is silent. So this is Weir's alone.
#[test]
fn a_store_put_back_to_an_older_state_is_believed() -> Result<()> {
    let Some(mut stage) = Stage::set(Proxy::Weir)? else {
        return Ok(());
    };
    stage.control_plane.back_up()?;
    let before = Served::Everywhere.offer(&stage.lab);
    let after = Offer { pods: before.pods[..1].to_vec(), ..before.clone() };
    stage.offer(&after)?;
    let fresh = Offer { name: "fresh", number: 20, pods: after.pods.clone() };
    stage.offer(&fresh)?;
    stage.control_plane.restore()?;
    let before = Served::Everywhere.offer(&stage.lab);
    stage.until_offered(&before)?;
    let fresh = Offer { name: "fresh", number: 20, pods: before.pods };
    stage.flows(&fresh).iter().try_for_each(|flow| stage.until_unserved(flow))
}
