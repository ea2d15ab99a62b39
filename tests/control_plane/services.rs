//! What users are promised of Services, with Weir and with kube-proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::control_plane::fixture::{Fixture, TIMEOUT};
use weir_tests::control_plane::proxy::Proxy;
use weir_tests::fixture::ServedBy;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{AttemptResult, Client, Flow, Origin, attempt};
use weir_tests::wait::until;

#[test]
fn every_frontend_answers_with_weir() -> Result<()> {
    every_frontend_answers(Proxy::Weir)
}

#[test]
fn every_frontend_answers_with_kube_proxy() -> Result<()> {
    every_frontend_answers(Proxy::KubeProxy)
}

/// Bytes to send: one, about a packet's worth, and for TCP a megabyte.
const LENGTHS: [(Protocol, &[usize]); 2] =
    [(Protocol::TCP, &[1, 1400, 1 << 20]), (Protocol::UDP, &[1, 1300])];

fn every_frontend_answers(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    for served in ServedBy::ALL {
        let offer = served.offer(&fixture.lab);
        for flow in fixture.flows(&offer) {
            for (protocol, lengths) in LENGTHS {
                let flow = Flow { protocol, ..flow };
                for &length in lengths {
                    let response = flow.ask(&fixture.lab, length)?;
                    proxy.check_client(&flow, &fixture.lab, &response)?;
                    let allowed = offer.pods.iter().any(|pod| pod.name == response.pod);
                    ensure!(allowed, "{} serves {flow}", response.pod);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn new_connections_follow_a_change_and_old_ones_go_on_with_weir() -> Result<()> {
    new_connections_follow_a_change_and_old_ones_go_on(Proxy::Weir)
}

#[test]
fn new_connections_follow_a_change_and_old_ones_go_on_with_kube_proxy() -> Result<()> {
    new_connections_follow_a_change_and_old_ones_go_on(Proxy::KubeProxy)
}

fn new_connections_follow_a_change_and_old_ones_go_on(proxy: Proxy) -> Result<()> {
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let mut offer = ServedBy::AllPods.offer(&fixture.lab);
    let mut connections = Vec::new();
    for flow in fixture.flows(&offer) {
        for _ in 0..10 {
            let namespace = flow.origin.namespace(&fixture.lab);
            let mut client = Client::connect(namespace, flow.frontend)?;
            let pod = client.exchange(1)?.pod;
            connections.push((client, pod));
        }
    }
    offer.pods = vec![&fixture.lab.node2.pods[1]];
    fixture.offer(&offer)?;
    for (client, pod) in &mut connections {
        let response = client.exchange(100_000).context("an old connection was broken")?;
        ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
    }
    Ok(())
}

#[test]
fn every_pod_gets_its_share_of_many_connections_with_weir() -> Result<()> {
    every_pod_gets_its_share_of_many_connections(Proxy::Weir)
}

#[test]
fn every_pod_gets_its_share_of_many_connections_with_kube_proxy() -> Result<()> {
    every_pod_gets_its_share_of_many_connections(Proxy::KubeProxy)
}

fn every_pod_gets_its_share_of_many_connections(proxy: Proxy) -> Result<()> {
    const CONNECTIONS: usize = 200;
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let fair = CONNECTIONS / offer.pods.len();
    for flow in fixture.flows(&offer) {
        let clients = flow.origin.namespace(&fixture.lab).run(|| {
            let connect = |_| Client::connect_here(flow.frontend);
            (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()
        })?;
        let mut shares = BTreeMap::<String, usize>::new();
        for mut client in clients {
            let response = client.exchange(1000)?;
            proxy.check_client(&flow, &fixture.lab, &response)?;
            *shares.entry(response.pod).or_default() += 1;
        }
        for pod in &offer.pods {
            let share = shares.get(&pod.name).copied().unwrap_or(0);
            // A third of the fair share is some six standard deviations away.
            ensure!(share > fair / 3, "{flow}: {} got {share}: {shares:?}", pod.name);
        }
    }
    Ok(())
}

#[test]
fn a_service_without_endpoints_refuses_with_weir() -> Result<()> {
    a_service_without_endpoints_refuses(Proxy::Weir)
}

#[test]
fn a_service_without_endpoints_refuses_with_kube_proxy() -> Result<()> {
    a_service_without_endpoints_refuses(Proxy::KubeProxy)
}

/// Prints how long a client waits for the refusal; docs/rules.md has the figures of each proxy.
fn a_service_without_endpoints_refuses(proxy: Proxy) -> Result<()> {
    /// The ICMP error about its first packet may reach a TCP client on the same machine too early; it
    /// then reacts to the second, a second later. The third would be sent three seconds after the first.
    const DEADLINE: Duration = Duration::from_millis(2500);
    let Some(fixture) = Fixture::start(proxy)? else {
        return Ok(());
    };
    let offer = Offer { name: "nobody", number: 31, pods: Vec::new() };
    fixture.control_plane.api.offer(&offer, fixture.lab.pods())?;
    for flow in fixture.flows(&offer) {
        let client = flow.origin.namespace(&fixture.lab);
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let flow = Flow { protocol, ..flow };
            let took = until(&format!("{flow} is refused"), TIMEOUT, || {
                let began = Instant::now();
                let result = attempt(client, flow.frontend, protocol, DEADLINE)?;
                ensure!(is_refusal(proxy, &flow, result), "{result:?}");
                Ok((began.elapsed(), result))
            })?;
            eprintln!("{proxy:?}: {flow} was refused after {took:.1?}");
        }
    }
    Ok(())
}

/// Whether `result` is how a client is refused. With nftables' `reject`, a UDP datagram of a process of
/// the node itself fails with `EPERM`.
fn is_refusal(proxy: Proxy, flow: &Flow, result: AttemptResult) -> bool {
    let (is_host, is_udp) = (matches!(flow.origin, Origin::Host), flow.protocol == Protocol::UDP);
    let may_be_forbidden = proxy == Proxy::KubeProxy && is_host && is_udp;
    result == AttemptResult::Refused || (may_be_forbidden && result == AttemptResult::Forbidden)
}

/// kube-proxy leaves client ports alone where it does not hide the client; the second flow then fails,
/// so this is a promise of Weir's alone. See the end-to-end test of the same promise.
#[test]
fn one_client_port_reaches_one_backend_through_two_frontends_with_weir() -> Result<()> {
    const CLIENT_PORT: u16 = 40_404;
    let Some(fixture) = Fixture::start(Proxy::Weir)? else {
        return Ok(());
    };
    let offer = ServedBy::OnePod.offer(&fixture.lab);
    let twin = Offer { name: "twin", number: 15, ..offer.clone() };
    fixture.offer(&twin)?;
    let client = &fixture.lab.node1.pods[1];
    for family in Family::ALL {
        let own = SocketAddr::from((client.addresses.of(family), CLIENT_PORT));
        let frontend = |offer: &Offer| (offer.cluster_ips().of(family), Offer::PORT).into();
        let connect = |offer| Client::connect_from(&client.namespace, own, frontend(offer));
        let mut clients = [&offer, &twin].map(connect).into_iter().collect::<Result<Vec<_>>>()?;
        for client in &mut clients {
            client.exchange(2000)?;
        }
    }
    Ok(())
}
