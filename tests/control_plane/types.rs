//! A Service that changes its type, and one that changes its families: what is no longer offered is
//! no longer served, and what is offered is.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use lb_common::address::{Family, Protocol};
use serde_json::{Value, json};
use weir_tests::control_plane::fixture::Fixture;
use weir_tests::control_plane::kubelet::service;
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Flow, Origin};

/// What a cloud's load balancer might have given the Service.
const INGRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

#[test]
fn a_service_may_change_its_type_with_weir() -> Result<()> {
    a_service_may_change_its_type(Proxy::Weir)
}

#[test]
fn a_service_may_change_its_type_with_kube_proxy() -> Result<()> {
    a_service_may_change_its_type(Proxy::KubeProxy)
}

fn a_service_may_change_its_type(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let via = fixture.lab.node1.addresses.v4;
    fixture.lab.network.ip(&format!("route add {INGRESS} via {via}"))?;
    let offer = ServedBy::LocalPods.offer(&fixture.lab);
    let node_port = service(&offer);
    let load_balancer = with_type(&offer, "LoadBalancer");
    let cluster_ip = without_node_ports(with_type(&offer, "ClusterIP"));
    let external_name =
        json!({"spec": {"type": "ExternalName", "externalName": "service.example.org"}});

    become_this(&fixture, &offer, &cluster_ip, [true, false, false])?;
    become_this(&fixture, &offer, &load_balancer, [true, true, true])?;
    become_this(&fixture, &offer, &node_port, [true, true, false])?;
    become_this(&fixture, &offer, &external_name, [false, false, false])?;
    become_this(&fixture, &offer, &load_balancer, [true, true, true])?;
    become_this(&fixture, &offer, &external_name, [false, false, false])?;
    become_this(&fixture, &offer, &cluster_ip, [true, false, false])?;
    become_this(&fixture, &offer, &node_port, [true, true, false])
}

/// Applies `fields` to the Service of `offer` and waits until it is served at its ClusterIPs, its node
/// ports and its load balancer's address, or not, as `served` says.
fn become_this(fixture: &Fixture, offer: &Offer, fields: &Value, served: [bool; 3]) -> Result<()> {
    let api = &fixture.control_plane.api;
    api.apply::<Service>(offer.name, fields)?;
    let [_, _, at_load_balancer] = served;
    if at_load_balancer {
        let status =
            json!({"status": {"loadBalancer": {"ingress": [{"ip": INGRESS.to_string()}]}}});
        api.merge_status::<Service>(offer.name, &status)?;
    }
    let from_outside =
        |frontend| Flow { origin: Origin::Outside, frontend, protocol: Protocol::TCP };
    let flows = fixture.flows(offer);
    let (to_nodes, to_cluster_ips): (Vec<_>, Vec<_>) =
        flows.into_iter().partition(|flow| matches!(flow.origin, Origin::Outside));
    let to_load_balancer = vec![from_outside((INGRESS, Offer::PORT).into())];
    for (flows, served) in [to_cluster_ips, to_nodes, to_load_balancer].iter().zip(served) {
        for flow in flows {
            if served {
                fixture.until_served_by(flow, &offer.pods)?;
            } else {
                fixture.until_unserved(flow)?;
            }
        }
    }
    Ok(())
}

fn with_type(offer: &Offer, name: &str) -> Value {
    let mut service = service(offer);
    service["spec"]["type"] = name.into();
    service
}

fn without_node_ports(mut service: Value) -> Value {
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        port.as_object_mut().and_then(|port| port.remove("nodePort"));
    }
    service
}

#[test]
fn a_service_may_lose_and_win_a_family_with_weir() -> Result<()> {
    a_service_may_lose_and_win_a_family(Proxy::Weir)
}

#[test]
fn a_service_may_lose_and_win_a_family_with_kube_proxy() -> Result<()> {
    a_service_may_lose_and_win_a_family(Proxy::KubeProxy)
}

fn a_service_may_lose_and_win_a_family(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let offer = ServedBy::RemotePods.offer(&fixture.lab);
    let both = service(&offer);
    let mut one = both.clone();
    one["spec"]["ipFamilyPolicy"] = "SingleStack".into();
    one["spec"]["ipFamilies"] = json!(["IPv4"]);
    one["spec"]["clusterIPs"] = json!([offer.cluster_ips().v4.to_string()]);
    fixture.control_plane.api.apply::<Service>(offer.name, &one)?;
    for flow in fixture.flows(&offer) {
        match Family::of(&flow.frontend.ip()) {
            Family::V4 => fixture.until_served_by(&flow, &offer.pods)?,
            Family::V6 => fixture.until_unserved(&flow)?,
        }
    }
    fixture.control_plane.api.apply::<Service>(offer.name, &both)?;
    fixture.until_offered(&offer)
}
