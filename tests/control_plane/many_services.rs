//! A thousand Services of ten endpoints, in both families, while endpoints come and go.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use lb_common::address::{Family, Protocol};
use serde_json::json;
use weir_tests::control_plane::api;
use weir_tests::control_plane::fixture::Fixture;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Pod, Shape};
use weir_tests::traffic::{Flow, HTTP_PORT, Origin};

const SERVICES: usize = 1000;

#[test]
fn a_thousand_services_of_ten_endpoints_are_served_amid_churn() -> Result<()> {
    let shape = Shape { local_pods: 5, remote_pods: 5, ..Shape::default() };
    let Some(mut fixture) = Fixture::start_shape(Proxy::Weir, shape)? else {
        return Ok(());
    };
    let began = Instant::now();
    make_services(&fixture)?;
    let flows = flows(&fixture)?;
    let pods: Vec<&Pod> = fixture.lab.pods().collect();
    // The last one made may be served last; the first ones must not have been lost meanwhile.
    for flow in flows.iter().rev().step_by(197) {
        fixture.until_served_by(flow, &pods)?;
    }
    eprintln!("{SERVICES} Services were served {:?} after the first was made", began.elapsed());
    for round in 0..2 {
        let (leaving, staying) = (pods[round], [&pods[..round], &pods[round + 1..]].concat());
        // Each time two thousand slices change.
        fixture.control_plane.api.set_ready(leaving, false)?;
        for flow in flows.iter().skip(round).step_by(499) {
            fixture.until_served_by(flow, &staying)?;
        }
        fixture.control_plane.api.set_ready(leaving, true)?;
        for flow in flows.iter().skip(round).step_by(499) {
            fixture.until_served_by(flow, &pods)?;
        }
    }
    fixture.until_offered(&ServedBy::AllPods.offer(&fixture.lab))?;
    ensure!(flows.len() == 2 * SERVICES, "{} ClusterIPs", flows.len());
    drop(flows);
    fixture.running.check_running()
}

/// Twenty at a time, each selecting every pod.
fn make_services(fixture: &Fixture) -> Result<()> {
    let fields = json!({"spec": {
        "selector": {"app": "web"},
        "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "http", "port": 80, "targetPort": HTTP_PORT}],
    }});
    fixture.control_plane.api.call(async |client| {
        stream::iter(0..SERVICES)
            .map(|number| {
                let (client, fields) = (client.clone(), &fields);
                async move { api::apply::<Service>(client, &name(number), fields).await }
            })
            .buffer_unordered(20)
            .try_for_each(|_| async { Ok(()) })
            .await
    })
}

fn name(number: usize) -> String {
    format!("many-{number}")
}

/// A flow from a pod to each ClusterIP, in the order of the Services' names.
fn flows(fixture: &Fixture) -> Result<Vec<Flow<'_>>> {
    let services = fixture
        .control_plane
        .api
        .call(async |client| api::namespaced::<Service>(client).list(&Default::default()).await)?;
    let mut flows = Vec::new();
    for service in services {
        let many = service.metadata.name.is_some_and(|name| name.starts_with("many-"));
        let addresses = service.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
        for address in addresses.iter().filter(|_| many).take(Family::ALL.len()) {
            let frontend = (address.parse::<std::net::IpAddr>()?, 80).into();
            let origin = Origin::Pod(&fixture.lab.node1.pods[0]);
            flows.push(Flow { origin, frontend, protocol: Protocol::TCP });
        }
    }
    Ok(flows)
}
