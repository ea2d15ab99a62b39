//! The health check of a cloud's load balancer at a Service's `healthCheckNodePort`: Weir and kube-proxy
//! respond byte by byte the same.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use lb_common::address::Family;
use serde_json::{Value, json};
use weir_tests::control_plane::api::namespaced;
use weir_tests::control_plane::fixture::{Fixture, TIMEOUT};
use weir_tests::control_plane::kubelet::service;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::manifests::Offer;
use weir_tests::traffic::probe;
use weir_tests::wait::until;

/// Within the range that API servers give node ports out of.
const PORT: u16 = 32_100;

#[test]
fn a_load_balancer_s_question_is_answered_with_weir() -> Result<()> {
    a_load_balancer_s_question_is_answered(Proxy::Weir)
}

#[test]
fn a_load_balancer_s_question_is_answered_with_kube_proxy() -> Result<()> {
    a_load_balancer_s_question_is_answered(Proxy::KubeProxy)
}

fn a_load_balancer_s_question_is_answered(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let mut offer = ServedBy::LocalPods.offer(&fixture.lab);
    fixture.control_plane.api.apply::<Service>(offer.name, &asked_about(&offer))?;
    until_answered(&fixture, &offer, "200 OK")?;
    offer.pods = fixture.lab.node2.pods.iter().collect();
    fixture.control_plane.api.offer(&offer, fixture.lab.pods())?;
    fixture.control_plane.api.apply::<Service>(offer.name, &asked_about(&offer))?;
    until_answered(
        &fixture,
        &Offer { pods: Vec::new(), ..offer.clone() },
        "503 Service Unavailable",
    )?;
    fixture.control_plane.api.apply::<Service>(offer.name, &service(&offer))?;
    Family::ALL.into_iter().try_for_each(|family| until_refused(&fixture, at(&fixture, family)))
}

#[test]
fn a_port_that_is_taken_is_an_event_on_the_service_with_weir() -> Result<()> {
    a_port_that_is_taken_is_an_event_on_the_service(Proxy::Weir)
}

#[test]
fn a_port_that_is_taken_is_an_event_on_the_service_with_kube_proxy() -> Result<()> {
    a_port_that_is_taken_is_an_event_on_the_service(Proxy::KubeProxy)
}

fn a_port_that_is_taken_is_an_event_on_the_service(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let taken = at(&fixture, Family::V4);
    let _listener = fixture.lab.node1.namespace.run(|| Ok(TcpListener::bind(taken)?))?;
    let offer = ServedBy::LocalPods.offer(&fixture.lab);
    let api = &fixture.control_plane.api;
    let made = api.apply::<Service>(offer.name, &asked_about(&offer))?;
    until("there is an Event on the Service", TIMEOUT, || {
        let events = api
            .call(async |client| namespaced::<Event>(client).list(&ListParams::default()).await)?;
        let word = Some("FailedToStartServiceHealthcheck");
        let event = events.into_iter().find(|event| event.reason.as_deref() == word);
        let event = event.context("none bears the reason")?;
        let about = event.regarding.context("it is about nothing")?;
        ensure!(about.kind.as_deref() == Some("Service"), "{about:?}");
        ensure!(about.name.as_deref() == Some(offer.name), "{about:?}");
        // By the uid `kubectl describe` finds it; kube-proxy writes the name there.
        let has_uid = about.uid == made.metadata.uid;
        ensure!(has_uid == (proxy == Proxy::Weir), "{about:?}");
        ensure!(event.type_.as_deref() == Some("Warning"), "{:?}", event.type_);
        Ok(())
    })
}

/// The Service of `offer` as one that a cloud's load balancer asks nodes about.
fn asked_about(offer: &Offer) -> Value {
    let mut fields = service(offer);
    fields["spec"]["type"] = json!("LoadBalancer");
    fields["spec"]["externalTrafficPolicy"] = json!("Local");
    fields["spec"]["healthCheckNodePort"] = json!(PORT);
    fields
}

fn at(fixture: &Fixture, family: Family) -> SocketAddr {
    (fixture.lab.node1.addresses.of(family), PORT).into()
}

/// Waits until the client outside gets this response in both families, with its headers and body.
fn until_answered(fixture: &Fixture, offer: &Offer, status: &str) -> Result<()> {
    let (name, count) = (offer.name, offer.pods.len());
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
         \t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    for (family, question) in Family::ALL.into_iter().zip(["GET /", "POST /any/path"]) {
        let port = at(fixture, family);
        until(&format!("{port} answers {status}"), TIMEOUT, || {
            let response = probe(&fixture.lab.client, port, question)?;
            ensure!(response.start == format!("HTTP/1.1 {status}"), "{response:?}");
            for (header, value) in [
                ("content-type", "application/json"),
                ("x-content-type-options", "nosniff"),
                ("x-load-balancing-endpoint-weight", count.to_string().as_str()),
            ] {
                ensure!(response.header(header) == Some(value), "{header} in {response:?}");
            }
            ensure!(response.text() == body, "{}", response.text());
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until connections are refused.
fn until_refused(fixture: &Fixture, port: SocketAddr) -> Result<()> {
    until(&format!("{port} is closed"), TIMEOUT, || {
        let connected = fixture.lab.client.run(|| Ok(TcpStream::connect(port)));
        match connected? {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("it takes connections"),
        }
    })
}
