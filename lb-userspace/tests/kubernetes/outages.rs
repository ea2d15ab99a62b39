//! The server is down, or comes back with other objects.

use lb_userspace::model::Change;

use crate::api::Api;
use crate::faults::{Refusal, Verb};
use crate::recorder::Recorder;
use crate::store::{SERVICES, SLICES, service, slice};

/// A server with three Services and a source that has synced.
async fn three_services() -> (Api, Recorder) {
    let api = Api::start();
    api.change(|state| {
        for name in ["a", "b", "c"] {
            let address = format!("10.96.0.{}", name.as_bytes()[0]);
            state.store.put(SERVICES, service(name, &address));
            state.store.put(SLICES, slice(&format!("{name}-1"), name, "10.244.1.1"));
        }
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    (api, recorder)
}

#[tokio::test]
async fn nothing_is_removed_while_the_server_is_down_and_changes_follow_afterwards() {
    let (mut api, mut recorder) = three_services().await;
    api.stop();
    recorder.until("the outage is a warning", |recorder| recorder.warnings.len() == 1).await;
    let warning = recorder.warnings[0].to_string();
    for part in ["no response since", "Weir tries again by itself", "what is in the kernel stays"] {
        assert!(warning.contains(part), "{part} in {warning}");
    }
    api.change(|state| {
        state.store.delete(SERVICES, "a");
        state.store.put(SERVICES, service("d", "10.96.0.4"));
    });
    assert_eq!(recorder.removals(), 0);
    assert_eq!(recorder.cluster.services.len(), 3);
    api.start_again();
    recorder.until_synced(&api).await;
    assert_eq!(recorder.removals(), 1);
}

#[tokio::test]
async fn after_a_lost_history_objects_are_listed_again_and_deleted_ones_removed() {
    for gone_at_start in [true, false] {
        let (mut api, mut recorder) = three_services().await;
        api.stop();
        api.change(|state| {
            state.store.delete(SERVICES, "a");
            state.store.delete(SLICES, "b-1");
            state.store.put(SERVICES, service("d", "10.96.0.4"));
            state.store.compact();
            state.faults.gone_at_start = gone_at_start;
        });
        api.start_again();
        recorder.until_synced(&api).await;
        assert_eq!(recorder.removals(), 2, "only what was deleted");
    }
}

#[tokio::test]
async fn a_store_restored_from_an_older_backup_replaces_the_newer_state() {
    let (api, mut recorder) = three_services().await;
    let backup = api.state().store.clone();
    api.change(|state| {
        state.store.delete(SERVICES, "a");
        state.store.put(SERVICES, service("b", "10.96.0.99"));
        state.store.put(SERVICES, service("d", "10.96.0.4"));
    });
    recorder.until_synced(&api).await;
    api.change(|state| {
        state.store = backup;
        state.cut();
    });
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.services.keys().map(|name| &*name.name).eq(["a", "b", "c"]));
    // The watch goes on from there.
    api.change(|state| state.store.put(SERVICES, service("e", "10.96.0.5")));
    recorder.until_synced(&api).await;
}

#[tokio::test]
async fn a_server_that_restarts_empty_removes_everything() {
    let (mut api, mut recorder) = three_services().await;
    api.stop();
    api.change(|state| {
        state.store = crate::store::Store::default();
        state.store.put(crate::store::NODES, crate::store::node("node-1", "192.0.2.1"));
    });
    api.start_again();
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.services.is_empty() && recorder.cluster.slices.is_empty());
}

#[tokio::test]
async fn a_source_that_starts_while_the_server_is_down_syncs_once_it_is_up() {
    let mut api = Api::start();
    api.stop();
    let mut recorder = Recorder::start(&api).await;
    recorder.until("the outage is a warning", |recorder| !recorder.warnings.is_empty()).await;
    assert!(recorder.warnings[0].to_string().contains("nothing is changed in the kernel before"));
    assert!(recorder.changes.is_empty());
    api.start_again();
    recorder.until_synced(&api).await;
}

#[tokio::test]
async fn synced_is_not_sent_before_every_kind_has_been_listed() {
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
    let mut recorder = Recorder::start(&api).await;
    recorder
        .until("the Service is there, and the failure is a warning", |recorder| {
            recorder.cluster.services.len() == 1
                && recorder.cluster.nodes.len() == 1
                && recorder.has_warned_of("no response about EndpointSlices since")
        })
        .await;
    assert!(!recorder.changes.contains(&Change::Synced));
    api.change(|state| state.faults.refusals.clear());
    recorder.until_synced(&api).await;
}
