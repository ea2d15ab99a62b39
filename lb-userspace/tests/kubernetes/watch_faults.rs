//! Watches and responses that fail while the server is up.

use std::time::{Duration, Instant};

use lb_userspace::source::Timeouts;
use serde_json::json;

use crate::api::Api;
use crate::faults::{Delivery, Refusal, Verb, WatchCache};
use crate::recorder::{Recorder, eventually, short_timeouts};
use crate::store::{SERVICES, service};

async fn watching() -> (Api, Recorder) {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("a", "10.96.0.1"));
        state.store.put(SERVICES, service("b", "10.96.0.2"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    eventually("all four watches are open", || api.open_watches() == 4).await;
    (api, recorder)
}

fn churn(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("c", "10.96.0.3")));
    api.change(|state| state.store.delete(SERVICES, "a"));
    api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.9")));
}

#[tokio::test]
async fn a_stream_cut_within_an_object_continues_where_it_was() {
    let (api, mut recorder) = watching().await;
    let lists = api.state().count("services?");
    api.change(|state| state.faults.delivery = Delivery::CutOnce);
    churn(&api);
    recorder.until_synced(&api).await;
    assert!(api.state().count("services?") > lists);
    assert_eq!(recorder.removals(), 1);
    assert_eq!(recorder.all_warnings, [""; 0], "a cut that is repaired at once is not a warning");
}

#[tokio::test]
async fn a_slow_stream_and_one_with_duplicates_converge() {
    for delivery in [Delivery::Slowly, Delivery::Repeatedly] {
        let (api, mut recorder) = watching().await;
        api.change(|state| state.faults.delivery = delivery);
        churn(&api);
        recorder.until_synced(&api).await;
        api.change(|state| state.faults.delivery = Delivery::Properly);
        churn_again(&api);
        recorder.until_synced(&api).await;
    }
}

fn churn_again(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    api.change(|state| state.store.delete(SERVICES, "c"));
}

#[tokio::test]
async fn an_idle_stream_is_closed_and_opened_again() {
    let api = Api::start();
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..short_timeouts() };
    let mut recorder = Recorder::with_timeouts(&api, timeouts).await;
    recorder.until_synced(&api).await;
    api.change(|state| state.faults.delivery = Delivery::Never);
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    // Streams that are open now stay silent for ever.
    let opened = api.state().count("watch=true");
    eventually("watches are opened again", || api.state().count("watch=true") > opened).await;
    api.change(|state| state.faults.delivery = Delivery::Properly);
    recorder.until_synced(&api).await;
}

#[tokio::test]
async fn watches_that_time_out_are_opened_again_without_a_list() {
    let api = Api::start();
    let timeouts = Timeouts { watch: Duration::from_secs(1), ..short_timeouts() };
    let mut recorder = Recorder::with_timeouts(&api, timeouts).await;
    recorder.until_synced(&api).await;
    eventually("each watch ended and began again", || api.state().count("watch=true") >= 8).await;
    let lists = api.state().requests.iter().filter(|r| !r.contains("watch=true")).count();
    assert_eq!(lists, 4);
    churn_again_from_nothing(&api);
    recorder.until_synced(&api).await;
}

fn churn_again_from_nothing(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    api.change(|state| state.store.delete(SERVICES, "a"));
    api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.2")));
}

#[tokio::test]
async fn refused_requests_are_retried_whatever_their_status() {
    for verb in [Verb::List, Verb::Watch] {
        for status in [429, 500, 503, 504] {
            let api = Api::start();
            api.change(|state| {
                state.store.put(SERVICES, service("a", "10.96.0.1"));
                let refusal =
                    Refusal { verb, path: "services", status, retry_after: None, times: 4 };
                state.faults.refusals.push(refusal);
            });
            let mut recorder = Recorder::start(&api).await;
            let text = format!("{status}");
            recorder.until("it is a warning", |recorder| recorder.has_warned_of(&text)).await;
            api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.2")));
            recorder.until_synced(&api).await;
            assert_eq!(recorder.removals(), 0);
        }
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let api = Api::start();
    api.change(|state| {
        let refusal = Refusal {
            verb: Verb::List,
            path: "services",
            status: 429,
            retry_after: Some(1),
            times: 1,
        };
        state.faults.refusals.push(refusal);
    });
    let begun = Instant::now();
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let asked = api.state().count("services?");
    assert!((2..=3).contains(&asked), "refused, listed, and perhaps watched by now: {asked}");
}

#[tokio::test]
async fn a_token_that_expires_is_read_again_from_its_file() {
    let (api, mut recorder) = watching().await;
    api.change(|state| {
        state.faults.token = Some("second".into());
        state.store.put(SERVICES, service("c", "10.96.0.3"));
        state.cut();
    });
    recorder
        .until("the refusal is a warning", |recorder| {
            recorder.has_warned_of("does not accept the credentials")
        })
        .await;
    assert_eq!(recorder.removals(), 0);
    recorder.renew_token(&api, "second");
    recorder.until_synced(&api).await;
}

#[tokio::test]
async fn credentials_that_are_renewed_in_time_are_never_refused() {
    let (api, mut recorder) = watching().await;
    recorder.renew_token(&api, "second");
    api.change(|state| {
        state.faults.token = Some("second".into());
        state.store.put(SERVICES, service("c", "10.96.0.3"));
        state.cut();
    });
    recorder.until_synced(&api).await;
    assert!(
        !recorder.has_warned_of("does not accept the credentials"),
        "{:?}",
        recorder.all_warnings
    );
}

#[tokio::test]
async fn a_list_whose_pages_expire_is_requested_as_a_whole() {
    let api = Api::start();
    api.change(|state| {
        for number in 0..700 {
            let address = format!("10.96.{}.{}", number / 250, number % 250);
            state.store.put(SERVICES, service(&format!("web-{number}"), &address));
        }
        state.faults.watch_cache = WatchCache::Off;
        state.faults.lost_pages = u32::MAX;
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.until_synced(&api).await;
    assert_eq!(recorder.removals(), 0);
}

#[tokio::test]
async fn an_unreadable_object_hides_no_other() {
    let api = Api::start();
    let mut broken = service("broken", "10.96.0.7");
    broken["spec"]["ports"] = json!("none");
    api.change(|state| {
        state.store.put(SERVICES, broken.clone());
        state.store.put(SERVICES, service("a", "10.96.0.1"));
    });
    let mut recorder = Recorder::start(&api).await;
    recorder
        .until("the other Service is there, and a warning", |recorder| {
            recorder.cluster.synced
                && recorder.cluster.services.len() == 1
                && recorder.has_warned_of("Service default/broken: it cannot be read")
        })
        .await;
    api.change(|state| state.store.put(SERVICES, service("broken", "10.96.0.7")));
    recorder.until_synced(&api).await;
    api.change(|state| state.store.put(SERVICES, broken));
    recorder
        .until("it stays as it was, with a warning", |recorder| !recorder.warnings.is_empty())
        .await;
    assert_eq!(recorder.cluster.services.len(), 2);
}

#[tokio::test]
async fn a_line_that_can_never_be_read_leads_to_a_list_after_three_tries() {
    let (api, mut recorder) = watching().await;
    let before = api.state().store.revision;
    api.change(|state| {
        // A list from a cache that is behind would lead to the same line again.
        state.faults.watch_cache = WatchCache::Stale(Box::new(state.store.clone()));
        state.faults.garbled = Some(before + 1);
        state.store.put(SERVICES, service("c", "10.96.0.3"));
    });
    recorder.until_synced(&api).await;
    assert!(recorder.has_warned_of("its response cannot be read"), "{:?}", recorder.all_warnings);
    let is_watch = |r: &&String| r.contains("/services?") && r.contains("watch=true");
    let from = format!("resourceVersion={before}&");
    let requests = api.state().requests.clone();
    let tries = requests.iter().filter(is_watch).filter(|r| format!("{r}&").contains(&from));
    assert_eq!(tries.count(), 3);
    // The watch goes on behind it.
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.9")));
    recorder.until_synced(&api).await;
    assert_eq!(recorder.removals(), 0);
}

#[tokio::test]
async fn an_object_that_no_line_and_no_list_shows_readably_is_skipped_by_name() {
    let (api, mut recorder) = watching().await;
    let mut broken = service("broken", "10.96.0.7");
    broken["spec"]["ports"] = json!("none");
    api.change(|state| {
        state.faults.garbled = Some(state.store.revision + 1);
        state.store.put(SERVICES, broken);
    });
    recorder
        .until("it is named", |recorder| {
            recorder.has_warned_of("Service default/broken: it cannot be read")
        })
        .await;
    api.change(|state| state.store.put(SERVICES, service("c", "10.96.0.3")));
    recorder.until("the others are watched", |recorder| recorder.cluster.services.len() == 3).await;
    api.change(|state| state.store.delete(SERVICES, "broken"));
    recorder.until_synced(&api).await;
}
