//! A Service from its making to its end: pods come, become unready, end and come back; the Service is
//! given to another proxy and taken back, and deleted. Each time exactly the right pods serve it.

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use weir_tests::control_plane::fixture::Fixture;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::Pod;
use weir_tests::manifests::Offer;

#[test]
fn services_come_scale_and_go_with_weir() -> Result<()> {
    services_come_scale_and_go(Proxy::Weir)
}

#[test]
fn services_come_scale_and_go_with_kube_proxy() -> Result<()> {
    services_come_scale_and_go(Proxy::KubeProxy)
}

fn services_come_scale_and_go(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let pods: Vec<&Pod> = fixture.lab.pods().collect();
    let mut offer = Offer { name: "fresh", number: 20, pods: vec![pods[0]] };
    fixture.offer(&offer)?;
    for some in [&pods[..4], &pods[1..2], &pods[..]] {
        offer.pods = some.to_vec();
        fixture.offer(&offer)?;
    }
    fixture.control_plane.api.delete::<Service>(offer.name, 0)?;
    fixture.flows(&offer).iter().try_for_each(|flow| fixture.until_unserved(flow))?;
    fixture.offer(&offer)
}

#[test]
fn pods_serve_while_they_are_ready_with_weir() -> Result<()> {
    pods_serve_while_they_are_ready(Proxy::Weir)
}

#[test]
fn pods_serve_while_they_are_ready_with_kube_proxy() -> Result<()> {
    pods_serve_while_they_are_ready(Proxy::KubeProxy)
}

fn pods_serve_while_they_are_ready(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let api = &fixture.control_plane.api;
    let mut offer = ServedBy::AllPods.offer(&fixture.lab);
    let pod = offer.pods.remove(1);
    api.set_ready(pod, false)?;
    fixture.until_offered(&offer)?;
    api.set_ready(pod, true)?;
    offer.pods.push(pod);
    fixture.until_offered(&offer)?;
    // A pod that is ending serves no new connections as long as others do, ...
    offer.pods.pop();
    api.terminate_pod(pod)?;
    fixture.until_offered(&offer)?;
    // ... but is better than none: KEP-1669.
    for other in offer.pods.drain(..) {
        api.set_ready(other, false)?;
    }
    offer.pods = vec![pod];
    fixture.until_offered(&offer)?;
    api.remove_pod(pod)?;
    fixture.flows(&offer).iter().try_for_each(|flow| fixture.until_unserved(flow))
}

#[test]
fn a_service_given_to_another_proxy_is_left_alone_with_weir() -> Result<()> {
    a_service_given_to_another_proxy_is_left_alone(Proxy::Weir)
}

#[test]
fn a_service_given_to_another_proxy_is_left_alone_with_kube_proxy() -> Result<()> {
    a_service_given_to_another_proxy_is_left_alone(Proxy::KubeProxy)
}

fn a_service_given_to_another_proxy_is_left_alone(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let offer = ServedBy::LocalPods.offer(&fixture.lab);
    let label = |value: Value| {
        let labels =
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": value}}});
        fixture.control_plane.api.merge::<Service>(offer.name, &labels)
    };
    for _ in 0..2 {
        label(json!("another"))?;
        fixture.flows(&offer).iter().try_for_each(|flow| fixture.until_unserved(flow))?;
        label(Value::Null)?;
        fixture.until_offered(&offer)?;
    }
    Ok(())
}
