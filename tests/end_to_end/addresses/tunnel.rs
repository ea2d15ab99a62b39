//! Clients whose packets come in by a device without Ethernet headers, as WireGuard's and IPIP's are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::agent::weir;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{PodRouting, Shape, addresses};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, Client, ask, attempt};
use weir_tests::wait::until;

#[test]
fn clients_behind_a_tunnel_without_ethernet_headers_reach_node_ports() -> Result<()> {
    let Some(fixture) = clients_behind_a_tunnel()? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let client = &lab.node2.namespace;
    for served in ServedBy::ALL {
        let offer = served.offer(lab);
        for family in Family::ALL {
            let frontend = (lab.node1.addresses.of(family), offer.node_port()).into();
            let is_one = |pod: &str| offer.pods.iter().any(|one| one.name == pod);
            for length in [1, 1400, 1 << 20] {
                let mut connection = Client::connect(client, frontend)?;
                let response = connection.exchange(length);
                let response = response.with_context(|| format!("{frontend}, {length} bytes"))?;
                ensure!(is_one(&response.pod), "{} serves {frontend}", response.pod);
            }
            for length in [1, 1300] {
                let response = ask(client, frontend, length);
                let response = response.with_context(|| format!("{frontend}, {length} bytes"))?;
                ensure!(is_one(&response.pod), "{} serves {frontend}", response.pod);
            }
        }
    }
    let shown = weir(&lab.node1, &["show", "devices"])?;
    let line = shown.lines().find(|line| line.contains("tun0")).context("no tun0")?;
    ensure!(line.contains("ingress") && line.contains("egress"), "{shown}");
    Ok(())
}

#[test]
fn clients_behind_a_tunnel_without_ethernet_headers_are_refused_where_there_is_no_endpoint()
-> Result<()> {
    let Some(fixture) = clients_behind_a_tunnel()? else {
        return Ok(());
    };
    let offer = Offer { name: "nobody", number: 31, pods: Vec::new() };
    fixture.manifests.offer_under(&offer, &Rules::default())?;
    let lab = &fixture.lab;
    for family in Family::ALL {
        let frontend = (lab.node1.addresses.of(family), offer.node_port()).into();
        until("it is refused", Duration::from_secs(10), || {
            let client = &lab.node2.namespace;
            let result = attempt(client, frontend, Protocol::UDP, Duration::from_secs(1))?;
            ensure!(result == AttemptResult::Refused, "{frontend}: {result:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// node2, which reaches node1's addresses through the tunnel.
fn clients_behind_a_tunnel() -> Result<Option<Fixture>> {
    let Some(fixture) = Fixture::start(Shape { pod_routing: PodRouting::Tun, ..Shape::default() })?
    else {
        return Ok(None);
    };
    let lab = &fixture.lab;
    let (to, from) = (lab.node1.addresses, addresses::overlay(2));
    lab.node2.namespace.ip(&format!(
        "route add {}/32 dev tun0 src {}\nroute add {}/128 dev tun0 src {}\n",
        to.v4, from.v4, to.v6, from.v6
    ))?;
    Ok(Some(fixture))
}
