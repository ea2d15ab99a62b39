//! A server without faults.

use std::time::Duration;

use lb_userspace::model::Change;
use lb_userspace::source::Timeouts;

use crate::api::Api;
use crate::faults::{Refusal, Verb, WatchCache};
use crate::recorder::{Recorder, short_timeouts};
use crate::store::{NODES, RANGES, SERVICES, SLICES, labelled, node, range, service, slice};

#[tokio::test]
async fn without_a_watch_cache_objects_are_listed_in_pages_and_synced_comes_last() {
    let api = Api::start();
    api.change(|state| {
        state.faults.watch_cache = WatchCache::Off;
        for number in 0..1203 {
            let (name, host) =
                (format!("web-{number}"), format!("{}.{}", number / 250, number % 250));
            state.store.put(SERVICES, service(&name, &format!("10.96.{host}")));
        }
        state.store.put(SLICES, slice("web-1-a", "web-1", "10.244.1.1"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.services.len(), 1203);
    let synced = recorder.changes.iter().position(|change| *change == Change::Synced);
    assert_eq!(synced, Some(recorder.changes.len() - 1));
    assert_eq!(api.state().count("/api/v1/services?&limit=500&continue="), 0);
    let pages = |state: &crate::state::State| {
        state.requests.iter().filter(|r| r.contains("services?") && r.contains("continue=")).count()
    };
    assert_eq!(pages(&api.state()), 2);
    assert_eq!(recorder.all_warnings, [""; 0]);
}

#[tokio::test]
async fn services_of_another_proxy_headless_slices_and_other_nodes_are_ignored() {
    let api = Api::start();
    api.change(|state| {
        let other =
            labelled(service("other", "10.96.0.9"), "service.kubernetes.io/service-proxy-name");
        state.store.put(SERVICES, other);
        let headless =
            labelled(slice("dns-a", "dns", "10.244.1.9"), "service.kubernetes.io/headless");
        state.store.put(SLICES, headless);
        state.store.put(NODES, node("node-2", "192.0.2.2"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.services.is_empty() && recorder.cluster.slices.is_empty());
    assert_eq!(recorder.cluster.nodes.keys().collect::<Vec<_>>(), ["node-1"]);
}

#[tokio::test]
async fn a_node_name_that_no_node_has_is_a_warning_until_one_has_it() {
    let api = Api::start();
    api.change(|state| {
        state.store.delete(NODES, "node-1");
        state.store.put(NODES, node("node-1.example.org", "192.0.2.1"));
        state.store.put(NODES, node("other", "192.0.2.2"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until("it is a warning", |recorder| !recorder.warnings.is_empty()).await;
    assert!(recorder.cluster.synced, "nothing waits for it");
    let warning = recorder.warnings[0].to_string();
    let expected =
        "Node node-1: none of the cluster's Nodes has this name (they have node-1.example.org, ..)";
    assert!(warning.starts_with(expected), "{warning}");
    api.change(|state| state.store.put(NODES, node("node-1", "192.0.2.1")));
    recorder.until_synced(&api).await;
    assert_eq!(recorder.all_warnings.len(), 1);
}

#[tokio::test]
async fn a_cluster_without_nodes_is_no_warning_before_another_joins() {
    let api = Api::start();
    api.change(|state| state.store.delete(NODES, "node-1"));
    let timeouts = Timeouts { watch: Duration::from_secs(1), ..short_timeouts() };
    let mut recorder = Recorder::with_timeouts(&api, timeouts).await;
    recorder.until_synced(&api).await;
    assert_eq!(recorder.all_warnings, [""; 0]);
    api.change(|state| state.store.put(NODES, node("other", "192.0.2.2")));
    recorder.until("it is a warning", |recorder| !recorder.warnings.is_empty()).await;
}

#[tokio::test]
async fn every_change_is_seen_in_any_order_of_kinds() {
    let api = Api::start();
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    // The slice comes before its Service.
    api.change(|state| state.store.put(SLICES, slice("web-a", "web", "10.244.1.1")));
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.slices.len(), 1);
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.2")));
    api.change(|state| state.store.put(NODES, node("node-1", "192.0.2.7")));
    recorder.until_synced(&api).await;
    api.change(|state| state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"])));
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.service_cidrs.len(), 1);
    api.change(|state| state.store.delete(SERVICES, "web"));
    api.change(|state| state.store.delete(RANGES, "kubernetes"));
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.services.is_empty() && recorder.cluster.service_cidrs.is_empty());
}

#[tokio::test]
async fn a_service_is_removed_while_it_has_the_label_of_another_proxy() {
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    let claimed = labelled(service("web", "10.96.0.1"), "service.kubernetes.io/service-proxy-name");
    api.change(|state| state.store.put(SERVICES, claimed));
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.services.is_empty());
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.services.len(), 1);
}

/// A server that responds to every request for ServiceCIDRs with this status.
fn without_ranges(status: u16) -> Api {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("web", "10.96.0.1"));
        state.faults.refusals.push(refuse_ranges(status));
    });
    api
}

fn refuse_ranges(status: u16) -> Refusal {
    let (verb, path, times) = (Verb::List, "servicecidrs", u32::MAX);
    Refusal { verb, path, status, retry_after: None, times }
}

#[tokio::test]
async fn an_api_without_service_cidrs_is_not_a_warning_and_is_not_asked_again() {
    let api = without_ranges(404);
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.synced && recorder.cluster.service_cidrs.is_empty());
    assert_eq!(recorder.all_warnings, [""; 0]);
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.2")));
    recorder.until_synced(&api).await;
    assert_eq!(api.state().count("servicecidrs"), 1);
}

#[tokio::test]
async fn service_cidrs_are_read_once_the_api_has_them() {
    let api = without_ranges(404);
    let timeouts = Timeouts { watch: Duration::from_secs(1), ..short_timeouts() };
    let mut recorder = Recorder::with_timeouts(&api, timeouts).await;
    recorder.until_synced(&api).await;
    api.change(|state| {
        state.faults.refusals.clear();
        state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12", "fd00:96::/112"]));
    });
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.service_cidrs["kubernetes"].len(), 2);
}

#[tokio::test]
async fn service_cidrs_are_removed_once_the_api_no_longer_has_them() {
    let api = Api::start();
    api.change(|state| state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"])));
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    api.change(|state| {
        state.store.delete(RANGES, "kubernetes");
        state.store.compact();
        state.faults.refusals.push(refuse_ranges(404));
        state.cut();
    });
    recorder.until_synced(&api).await;
    assert!(recorder.cluster.service_cidrs.is_empty());
    assert_eq!(recorder.all_warnings, [""; 0]);
}

#[tokio::test]
async fn forbidden_service_cidrs_are_a_warning_and_delay_nothing() {
    let api = without_ranges(403);
    let mut recorder = Recorder::start(&api).await;
    recorder.until("all other kinds are listed", |recorder| recorder.cluster.synced).await;
    assert_eq!(recorder.cluster.services.len(), 1);
    recorder
        .until("the refusal is a warning", |recorder| {
            recorder.has_warned_of("no response about ServiceCIDRs since")
        })
        .await;
    api.change(|state| {
        state.faults.refusals.clear();
        state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"]));
    });
    recorder.until_synced(&api).await;
}
