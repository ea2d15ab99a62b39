//! What cannot be honoured in a Service, written back as an Event on it.

use lb_userspace::model::Warning;
use lb_userspace::source::{EventCounts, Reason};
use serde_json::json;

use crate::api::Api;
use crate::faults::{Refusal, Verb};
use crate::store::{SERVICES, service};
use crate::told::{Told, eventually};

fn warning(about: &str) -> Warning {
    Warning { about: about.into(), text: "its port is taken: choose another".into() }
}

#[tokio::test]
async fn a_warning_about_a_service_becomes_one_event_on_it_however_often_it_is_made() {
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let told = Told::by(&api).await;
    for about in ["Service default/web", "Node node-1", "Service default/web"] {
        told.reporter.report(&warning(about));
    }
    eventually("both are written", || told.reporter.counts().written == 2).await;
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
async fn a_port_that_cannot_be_listened_on_is_an_event_under_kube_proxys_name() {
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let told = Told::by(&api).await;
    let reason = Reason::FailedToStartServiceHealthcheck;
    told.reporter.report_as(reason, &warning("Service default/web"));
    eventually("it is written", || told.reporter.counts().written == 1).await;
    let state = api.state();
    let event = &state.events[0];
    assert_eq!(event["reason"], "FailedToStartServiceHealthcheck");
    assert_eq!((&event["action"], &event["type"]), (&json!("Listen"), &json!("Warning")));
    assert_eq!(event["regarding"]["name"], "web");
}

#[tokio::test]
async fn events_that_are_refused_are_counted_and_disturb_nothing() {
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
    let mut told = Told::by(&api).await;
    told.reporter.report(&warning("Service default/web"));
    eventually("it is counted", || told.reporter.counts().failed == 1).await;
    told.reporter.report(&warning("Service default/web"));
    eventually("the next is written", || {
        told.reporter.counts() == EventCounts { written: 1, failed: 1, dropped: 0 }
    })
    .await;
    told.until_true(&api).await;
}

#[tokio::test]
async fn a_flood_of_warnings_is_cut_off_not_waited_for() {
    let api = Api::start();
    let told = Told::by(&api).await;
    for _ in 0..1000 {
        told.reporter.report(&warning("Service default/none"));
    }
    assert!(told.reporter.counts().dropped >= 700);
}
