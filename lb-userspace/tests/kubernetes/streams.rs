//! Watches and answers that go wrong while the server is there.

use std::time::{Duration, Instant};

use lb_userspace::source::Timeouts;
use serde_json::json;

use crate::api::Api;
use crate::faults::{Manner, Refusal, Verb};
use crate::store::{SERVICES, service};
use crate::told::{Told, eventually, short_timeouts};

async fn watching() -> (Api, Told) {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("a", "10.96.0.1"));
        state.store.put(SERVICES, service("b", "10.96.0.2"));
    });
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    eventually("all four watch", || api.open_watches() == 4).await;
    (api, told)
}

fn churn(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("c", "10.96.0.3")));
    api.change(|state| state.store.delete(SERVICES, "a"));
    api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.9")));
}

#[tokio::test]
async fn a_stream_cut_in_the_middle_of_an_object_goes_on_where_it_was() {
    let (api, mut told) = watching().await;
    let lists = api.state().count("services?");
    api.change(|state| state.faults.manner = Manner::CutOnce);
    churn(&api);
    told.until_true(&api).await;
    assert!(api.state().count("services?") > lists);
    assert_eq!(told.removals(), 1);
    assert_eq!(told.complaints, [""; 0], "a cut that heals at once is not worth a word");
}

#[tokio::test]
async fn a_slow_stream_and_one_that_repeats_itself_come_to_the_truth() {
    for manner in [Manner::Slowly, Manner::Repeatedly] {
        let (api, mut told) = watching().await;
        api.change(|state| state.faults.manner = manner);
        churn(&api);
        told.until_true(&api).await;
        api.change(|state| state.faults.manner = Manner::Properly);
        churn_again(&api);
        told.until_true(&api).await;
    }
}

fn churn_again(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    api.change(|state| state.store.delete(SERVICES, "c"));
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_given_up_and_opened_again() {
    let api = Api::start();
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..short_timeouts() };
    let mut told = Told::with(&api, timeouts).await;
    told.until_true(&api).await;
    api.change(|state| state.faults.manner = Manner::Never);
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    // Those that are open by now stay silent for ever: only giving up helps.
    let opened = api.state().count("watch=true");
    eventually("watches are opened anew", || api.state().count("watch=true") > opened).await;
    api.change(|state| state.faults.manner = Manner::Properly);
    told.until_true(&api).await;
}

#[tokio::test]
async fn watches_that_end_in_their_time_are_opened_again_without_a_list() {
    let api = Api::start();
    let timeouts = Timeouts { watch: Duration::from_secs(1), ..short_timeouts() };
    let mut told = Told::with(&api, timeouts).await;
    told.until_true(&api).await;
    eventually("each watch ended and began again", || api.state().count("watch=true") >= 8).await;
    let lists = api.state().requests.iter().filter(|r| !r.contains("watch=true")).count();
    assert_eq!(lists, 4);
    churn_again_from_nothing(&api);
    told.until_true(&api).await;
}

fn churn_again_from_nothing(api: &Api) {
    api.change(|state| state.store.put(SERVICES, service("a", "10.96.0.1")));
    api.change(|state| state.store.delete(SERVICES, "a"));
    api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.2")));
}

#[tokio::test]
async fn refusals_pass_whatever_their_status_and_wherever_they_come() {
    for verb in [Verb::List, Verb::Watch] {
        for status in [429, 500, 503, 504] {
            let api = Api::start();
            api.change(|state| {
                state.store.put(SERVICES, service("a", "10.96.0.1"));
                let refusal =
                    Refusal { verb, path: "services", status, retry_after: None, times: 4 };
                state.faults.refusals.push(refusal);
            });
            let mut told = Told::by(&api).await;
            let complaint = format!("{status}");
            told.until("it is a warning", |told| told.has_complained(&complaint)).await;
            api.change(|state| state.store.put(SERVICES, service("b", "10.96.0.2")));
            told.until_true(&api).await;
            assert_eq!(told.removals(), 0);
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
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
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let asked = api.state().count("services?");
    assert!((2..=3).contains(&asked), "refused, listed, and perhaps watched by now: {asked}");
}

#[tokio::test]
async fn a_token_that_expires_is_read_again_from_its_file() {
    let (api, mut told) = watching().await;
    api.change(|state| {
        state.faults.token = Some("second".into());
        state.store.put(SERVICES, service("c", "10.96.0.3"));
        state.cut();
    });
    told.until("the refusal is a warning", |told| {
        told.has_complained("does not accept the credentials")
    })
    .await;
    assert_eq!(told.removals(), 0);
    told.renew_token(&api, "second");
    told.until_true(&api).await;
}

#[tokio::test]
async fn credentials_that_are_renewed_in_time_are_never_refused() {
    let (api, mut told) = watching().await;
    told.renew_token(&api, "second");
    api.change(|state| {
        state.faults.token = Some("second".into());
        state.store.put(SERVICES, service("c", "10.96.0.3"));
        state.cut();
    });
    told.until_true(&api).await;
    assert!(!told.has_complained("does not accept the credentials"), "{:?}", told.complaints);
}

#[tokio::test]
async fn a_list_whose_pages_lapse_is_asked_for_as_a_whole() {
    let api = Api::start();
    api.change(|state| {
        for number in 0..700 {
            let address = format!("10.96.{}.{}", number / 250, number % 250);
            state.store.put(SERVICES, service(&format!("web-{number}"), &address));
        }
        state.faults.lost_pages = u32::MAX;
    });
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    assert_eq!(told.removals(), 0);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let api = Api::start();
    let mut broken = service("broken", "10.96.0.7");
    broken["spec"]["ports"] = json!("none");
    api.change(|state| {
        state.store.put(SERVICES, broken.clone());
        state.store.put(SERVICES, service("a", "10.96.0.1"));
    });
    let mut told = Told::by(&api).await;
    told.until("the other Service is told, and what is wrong", |told| {
        told.cluster.synced
            && told.cluster.services.len() == 1
            && told.has_complained("Service default/broken: it cannot be read")
    })
    .await;
    api.change(|state| state.store.put(SERVICES, service("broken", "10.96.0.7")));
    told.until_true(&api).await;
    api.change(|state| state.store.put(SERVICES, broken));
    told.until("it stays as it was, with a warning", |told| !told.warnings.is_empty()).await;
    assert_eq!(told.cluster.services.len(), 2);
}
