//! Days on which nothing goes wrong.

use std::time::Duration;

use lb_userspace::model::Change;
use lb_userspace::source::Timeouts;

use crate::api::Api;
use crate::faults::{Refusal, Verb};
use crate::store::{NODES, RANGES, SERVICES, SLICES, labelled, node, range, service, slice};
use crate::told::{Told, short_timeouts};

#[tokio::test]
async fn everything_is_told_in_pages_and_synced_comes_last() {
    let api = Api::start();
    api.change(|state| {
        for number in 0..1203 {
            let (name, host) =
                (format!("web-{number}"), format!("{}.{}", number / 250, number % 250));
            state.store.put(SERVICES, service(&name, &format!("10.96.{host}")));
        }
        state.store.put(SLICES, slice("web-1-a", "web-1", "10.244.1.1"));
    });
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    assert_eq!(told.cluster.services.len(), 1203);
    let synced = told.changes.iter().position(|change| *change == Change::Synced);
    assert_eq!(synced, Some(told.changes.len() - 1));
    assert_eq!(api.state().count("/api/v1/services?&limit=500&continue="), 0);
    let pages = |state: &crate::api::State| {
        state.requests.iter().filter(|r| r.contains("services?") && r.contains("continue=")).count()
    };
    assert_eq!(pages(&api.state()), 2);
    assert_eq!(told.complaints, [""; 0]);
}

#[tokio::test]
async fn what_another_proxy_serves_and_what_is_headless_and_other_nodes_are_not_told() {
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
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    assert!(told.cluster.services.is_empty() && told.cluster.slices.is_empty());
    assert_eq!(told.cluster.nodes.keys().collect::<Vec<_>>(), ["node-1"]);
}

#[tokio::test]
async fn every_change_is_told_in_any_order_of_kinds() {
    let api = Api::start();
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    // The slice comes before its Service.
    api.change(|state| state.store.put(SLICES, slice("web-a", "web", "10.244.1.1")));
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    told.until_true(&api).await;
    assert_eq!(told.cluster.slices.len(), 1);
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.2")));
    api.change(|state| state.store.put(NODES, node("node-1", "192.0.2.7")));
    told.until_true(&api).await;
    api.change(|state| state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"])));
    told.until_true(&api).await;
    assert_eq!(told.cluster.service_cidrs.len(), 1);
    api.change(|state| state.store.delete(SERVICES, "web"));
    api.change(|state| state.store.delete(RANGES, "kubernetes"));
    told.until_true(&api).await;
    assert!(told.cluster.services.is_empty() && told.cluster.service_cidrs.is_empty());
}

#[tokio::test]
async fn a_label_that_claims_a_service_for_another_proxy_removes_it_and_its_removal_brings_it_back()
{
    let api = Api::start();
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    let claimed = labelled(service("web", "10.96.0.1"), "service.kubernetes.io/service-proxy-name");
    api.change(|state| state.store.put(SERVICES, claimed));
    told.until_true(&api).await;
    assert!(told.cluster.services.is_empty());
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.1")));
    told.until_true(&api).await;
    assert_eq!(told.cluster.services.len(), 1);
}

/// A server that answers every question about ServiceCIDRs with this status.
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
async fn a_server_that_has_no_service_cidrs_yet_is_not_asked_for_them_again_and_nothing_is_wrong() {
    let api = without_ranges(404);
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    assert!(told.cluster.synced && told.cluster.service_cidrs.is_empty());
    assert_eq!(told.complaints, [""; 0]);
    api.change(|state| state.store.put(SERVICES, service("web", "10.96.0.2")));
    told.until_true(&api).await;
    assert_eq!(api.state().count("servicecidrs"), 1);
}

#[tokio::test]
async fn a_server_that_has_service_cidrs_one_day_is_noticed() {
    let api = without_ranges(404);
    let timeouts = Timeouts { watch: Duration::from_secs(1), ..short_timeouts() };
    let mut told = Told::with(&api, timeouts).await;
    told.until_true(&api).await;
    api.change(|state| {
        state.faults.refusals.clear();
        state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12", "fd00:96::/112"]));
    });
    told.until_true(&api).await;
    assert_eq!(told.cluster.service_cidrs["kubernetes"].len(), 2);
}

#[tokio::test]
async fn service_cidrs_are_gone_once_the_server_no_longer_knows_such_objects() {
    let api = Api::start();
    api.change(|state| state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"])));
    let mut told = Told::by(&api).await;
    told.until_true(&api).await;
    api.change(|state| {
        state.store.delete(RANGES, "kubernetes");
        state.store.compact();
        state.faults.refusals.push(refuse_ranges(404));
        state.cut();
    });
    told.until_true(&api).await;
    assert!(told.cluster.service_cidrs.is_empty());
    assert_eq!(told.complaints, [""; 0]);
}

#[tokio::test]
async fn service_cidrs_that_weir_may_not_see_hold_nothing_up_but_are_a_warning() {
    let api = without_ranges(403);
    let mut told = Told::by(&api).await;
    told.until("all else is told", |told| told.cluster.synced).await;
    assert_eq!(told.cluster.services.len(), 1);
    told.until("the refusal is told", |told| {
        told.has_complained("no response about ServiceCIDRs since")
    })
    .await;
    api.change(|state| {
        state.faults.refusals.clear();
        state.store.put(RANGES, range("kubernetes", &["10.96.0.0/12"]));
    });
    told.until_true(&api).await;
}
