//! The server is away, or comes back with another memory than it had.

use lb_userspace::model::Change;

use crate::api::Api;
use crate::faults::{Refusal, Verb};
use crate::store::{SERVICES, SLICES, service, slice};
use crate::told::Told;

/// A server with three Services and a source that has told them.
async fn three_services() -> (Api, Told) {
    let api = Api::start();
    api.change(|state| {
        for name in ["a", "b", "c"] {
            let address = format!("10.96.0.{}", name.as_bytes()[0]);
            state.store.put(SERVICES, service(name, &address));
            state.store.put(SLICES, slice(&format!("{name}-1"), name, "10.244.1.1"));
        }
    });
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    (api, told)
}

#[tokio::test]
async fn nothing_is_removed_while_the_server_is_away_and_what_it_missed_is_told_afterwards() {
    let (mut api, mut told) = three_services().await;
    api.stop();
    told.until("the outage is a warning", |told| told.warnings.len() == 1).await;
    let complaint = told.warnings[0].to_string();
    for part in ["no response since", "Weir tries again by itself", "what is in the kernel stays"] {
        assert!(complaint.contains(part), "{part} in {complaint}");
    }
    api.change(|state| {
        state.store.delete(SERVICES, "a");
        state.store.put(SERVICES, service("d", "10.96.0.4"));
    });
    assert_eq!(told.removals(), 0);
    assert_eq!(told.cluster.services.len(), 3);
    api.start_again();
    told.until_true(&api).await;
    assert_eq!(told.removals(), 1);
}

#[tokio::test]
async fn a_history_lost_meanwhile_is_listed_again_and_what_is_gone_is_removed() {
    for gone_at_start in [true, false] {
        let (mut api, mut told) = three_services().await;
        api.stop();
        api.change(|state| {
            state.store.delete(SERVICES, "a");
            state.store.delete(SLICES, "b-1");
            state.store.put(SERVICES, service("d", "10.96.0.4"));
            state.store.compact();
            state.faults.gone_at_start = gone_at_start;
        });
        api.start_again();
        told.until_true(&api).await;
        assert_eq!(told.removals(), 2, "and nothing else");
    }
}

#[tokio::test]
async fn a_store_restored_to_an_older_state_takes_the_place_of_the_newer() {
    let (api, mut told) = three_services().await;
    let backup = api.state().store.clone();
    api.change(|state| {
        state.store.delete(SERVICES, "a");
        state.store.put(SERVICES, service("b", "10.96.0.99"));
        state.store.put(SERVICES, service("d", "10.96.0.4"));
    });
    told.until_true(&api).await;
    api.change(|state| {
        state.store = backup;
        state.cut();
    });
    told.until_true(&api).await;
    assert!(told.cluster.services.keys().map(|name| name.name.as_str()).eq(["a", "b", "c"]));
    // The watch goes on from there.
    api.change(|state| state.store.put(SERVICES, service("e", "10.96.0.5")));
    told.until_true(&api).await;
}

#[tokio::test]
async fn a_server_that_starts_anew_and_empty_empties_what_is_known() {
    let (mut api, mut told) = three_services().await;
    api.stop();
    api.change(|state| {
        state.store = crate::store::Store::default();
        state.store.put(crate::store::NODES, crate::store::node("node-1", "192.0.2.1"));
    });
    api.start_again();
    told.until_true(&api).await;
    assert!(told.cluster.services.is_empty() && told.cluster.slices.is_empty());
}

#[tokio::test]
async fn a_source_that_starts_while_the_server_is_away_begins_when_it_comes() {
    let mut api = Api::start();
    api.stop();
    let mut told = Told::by(&api).await;
    told.until("the outage is a warning", |told| !told.warnings.is_empty()).await;
    assert!(told.warnings[0].to_string().contains("nothing is changed in the kernel before"));
    assert!(told.changes.is_empty());
    api.start_again();
    told.until_true(&api).await;
}

#[tokio::test]
async fn nothing_is_synced_before_every_kind_has_been_listed() {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("a", "10.96.0.1"));
        let refusal = Refusal {
            verb: Verb::List,
            path: "endpointslices",
            status: 503,
            retry_after: None,
            times: u32::MAX,
        };
        state.faults.refusals.push(refusal);
    });
    let mut told = Told::by(&api).await;
    told.until("the Service is told and the trouble too", |told| {
        told.cluster.services.len() == 1
            && told.cluster.nodes.len() == 1
            && told.has_complained("no response about EndpointSlices since")
    })
    .await;
    assert!(!told.changes.contains(&Change::Synced));
    api.change(|state| state.faults.refusals.clear());
    told.until_true(&api).await;
}
