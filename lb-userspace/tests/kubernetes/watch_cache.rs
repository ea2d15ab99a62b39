//! Lists from the API server's watch cache, which may be behind its store.

use std::net::IpAddr;
use std::time::Duration;

use lb_userspace::model::Change;
use lb_userspace::source::Timeouts;

use crate::api::Api;
use crate::faults::WatchCache;
use crate::recorder::{Recorder, eventually, short_timeouts};
use crate::store::{SERVICES, service};

/// A server with two Services.
fn two_services() -> Api {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("a", "10.96.0.1"));
        state.store.put(SERVICES, service("b", "10.96.0.2"));
    });
    api
}

/// From now on the watch cache holds what the store holds now.
fn freeze(api: &Api) {
    api.change(|state| {
        state.faults.watch_cache = WatchCache::Stale(Box::new(state.store.clone()));
    });
}

/// The lists of Services so far.
fn lists(api: &Api) -> Vec<String> {
    let state = api.state();
    let is_list = |r: &&String| r.contains("/services?") && !r.contains("watch=true");
    state.requests.iter().filter(is_list).cloned().collect()
}

#[tokio::test]
async fn first_lists_are_served_from_the_watch_cache_whole() {
    let api = two_services();
    api.change(|state| {
        for number in 0..1203 {
            let host = format!("{}.{}", 1 + number / 250, number % 250);
            state.store.put(SERVICES, service(&format!("web-{number}"), &format!("10.96.{host}")));
        }
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    let cached = "resourceVersion=0&resourceVersionMatch=NotOlderThan&limit=500";
    let requests = api.state().requests.clone();
    let from_cache = requests.iter().filter(|request| request.contains(cached)).count();
    assert_eq!(from_cache, 4, "one for each kind: {requests:?}");
    assert_eq!(lists(&api).len(), 1, "the cache has no pages");
}

#[tokio::test]
async fn a_first_list_from_a_stale_cache_is_caught_up_by_the_watch() {
    let api = two_services();
    freeze(&api);
    api.change(|state| {
        state.store.delete(SERVICES, "a");
        state.store.put(SERVICES, service("c", "10.96.0.3"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert_eq!(lists(&api).len(), 1);
}

#[tokio::test]
async fn a_lost_history_is_listed_again_from_a_cache_that_is_no_older() {
    let api = two_services();
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    let seen = api.state().store.revision;
    lose_history(&api);
    recorder.until_synced(&api).await;
    // The list that checks whether the history went back asks the store for its newest version.
    let again = lists(&api).pop().unwrap();
    let version = format!("resourceVersion={seen}&resourceVersionMatch=NotOlderThan");
    assert!(again.contains(&version) && !again.contains("limit="), "{again}");
}

/// Changes something, forgets the history up to there, and closes all watches before they see it.
fn lose_history(api: &Api) {
    api.change(|state| {
        state.cut();
        state.store.delete(SERVICES, "a");
        state.store.compact();
    });
}

#[tokio::test]
async fn a_stale_cache_never_takes_back_what_was_seen() {
    let api = two_services();
    freeze(&api);
    let mut recorder = Recorder::start(&api).await;
    api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.9")));
    api.change(|state| state.store.put(SERVICES, service("c", "10.96.0.3")));
    recorder.until_synced(&api).await;
    let before = recorder.changes.len();
    lose_history(&api);
    recorder.until_synced(&api).await;
    let again = &recorder.changes[before..];
    let old = "10.96.0.2".parse::<IpAddr>().unwrap();
    let is_old = |change: &Change| matches!(change, Change::Service(service) if service.cluster_ips.contains(&old));
    let went_back = again.iter().any(is_old);
    assert!(!went_back, "{again:?}");
    assert_eq!(recorder.removals(), 1, "that of the one that was deleted");
    // It was refused as too large a version, and the store was asked at once.
    let last = lists(&api).pop().unwrap();
    assert!(!last.contains("resourceVersion"), "{last}");
    assert_eq!(recorder.all_warnings, [""; 0]);
}

#[tokio::test]
async fn a_store_put_back_is_listed_as_it_is_whatever_the_cache_still_holds() {
    let api = two_services();
    let backup = api.state().store.clone();
    let mut recorder = Recorder::start(&api).await;
    api.change(|state| state.store.put(SERVICES, service("c", "10.96.0.3")));
    recorder.until_synced(&api).await;
    freeze(&api);
    api.change(|state| {
        state.store = backup;
        state.cut();
    });
    recorder.until_synced(&api).await;
    assert_eq!(recorder.cluster.services.len(), 2);
}

#[tokio::test]
async fn a_long_list_may_take_its_time_as_long_as_it_goes_on() {
    let api = two_services();
    api.change(|state| state.faults.list_pieces = 25);
    let timeouts = Timeouts { response: Duration::from_secs(2), ..short_timeouts() };
    let mut recorder = Recorder::with_timeouts(&api, timeouts).await;
    recorder.until_synced(&api).await;
    assert_eq!(recorder.all_warnings, [""; 0]);
    eventually("it is watched", || api.open_watches() == 4).await;
}
