//! Warnings about a Service as Events on it.

use lb_userspace::model::Warning;
use lb_userspace::source::{EventCounts, Reason};
use serde_json::json;

use crate::api::Api;
use crate::faults::{Refusal, Verb};
use crate::recorder::{Recorder, eventually};
use crate::store::{SERVICES, service};

fn warning(about: &str) -> Warning {
    Warning { about: about.into(), text: "its port is taken: choose another".into() }
}

#[tokio::test]
async fn a_repeated_warning_about_a_service_becomes_one_event_on_it() {
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let recorder = Recorder::start(&api).await;
    for about in ["Service default/web", "Node node-1", "Service default/web"] {
        recorder.reporter.report(&warning(about));
    }
    eventually("both are written", || recorder.reporter.counts().written == 2).await;
    let state = api.state();
    let [event] = state.events.as_slice() else {
        panic!("one Event: {:?}", state.events);
    };
    let uid =
        &state.store.objects(SERVICES, &crate::store::Selector::default())[0]["metadata"]["uid"];
    assert_eq!(event["regarding"]["uid"], *uid);
    assert_eq!(event["regarding"]["name"], "web");
    assert_eq!(event["note"], "its port is taken: choose another");
    assert_eq!(event["reportingInstance"], "node-1");
    for field in ["type", "reason", "action", "reportingController", "eventTime"] {
        assert!(event[field].is_string(), "{field}");
    }
    assert_eq!(event["metadata"]["namespace"], json!("default"));
}

#[tokio::test]
async fn a_health_check_port_in_use_is_an_event_with_kube_proxys_reason() {
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let recorder = Recorder::start(&api).await;
    let reason = Reason::FailedToStartServiceHealthcheck;
    recorder.reporter.report_as(reason, &warning("Service default/web"));
    eventually("it is written", || recorder.reporter.counts().written == 1).await;
    let state = api.state();
    let event = &state.events[0];
    assert_eq!(event["reason"], "FailedToStartServiceHealthcheck");
    assert_eq!((&event["action"], &event["type"]), (&json!("Listen"), &json!("Warning")));
    assert_eq!(event["regarding"]["name"], "web");
}

#[tokio::test]
async fn refused_events_are_counted_and_disturb_nothing() {
    let api = Api::start();
    api.change(|state| {
        state.store.put(SERVICES, service("web", "10.96.0.1"));
        let refusal = Refusal {
            verb: Verb::Create,
            path: "events",
            status: 403,
            retry_after: None,
            times: 1,
        };
        state.faults.refusals.push(refusal);
    });
    let mut recorder = Recorder::start(&api).await;
    recorder.reporter.report(&warning("Service default/web"));
    eventually("it is counted", || recorder.reporter.counts().failed == 1).await;
    recorder.reporter.report(&warning("Service default/web"));
    eventually("the next is written", || {
        recorder.reporter.counts() == EventCounts { written: 1, failed: 1, dropped: 0 }
    })
    .await;
    recorder.until_synced(&api).await;
}

#[tokio::test]
async fn a_flood_of_warnings_is_dropped_without_waiting() {
    let api = Api::start();
    let recorder = Recorder::start(&api).await;
    for _ in 0..1000 {
        recorder.reporter.report(&warning("Service default/none"));
    }
    assert!(recorder.reporter.counts().dropped >= 700);
}
