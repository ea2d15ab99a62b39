//! Health checks at a Service's `healthCheckNodePort` show which nodes have an endpoint, and are refused
//! where no Service has the port.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Family;
use weir_tests::agent::{Agent, weir};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Node, Shape};
use weir_tests::manifests::{Manifests, Offer};
use weir_tests::traffic::{Message, TIMEOUT, probe};
use weir_tests::wait::until;

/// How long a response may take to follow a change of the manifests.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn a_node_with_a_ready_endpoint_is_healthy_and_one_without_is_not() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut other = Agent::start(&lab.node2, &fixture.manifests, &[])?;
    let offer = Offer { name: "web", number: 21, pods: lab.node1.pods.iter().take(2).collect() };
    balance(&fixture.manifests, &offer, "Local", 32_021)?;
    for family in Family::ALL {
        let port = at(&lab.node1, family, 32_021);
        let response = until_weight(lab, port, 2)?;
        ensure!(response.status()? == 200, "{} at {port}", response.start);
        ensure!(response.header("content-type") == Some("application/json"), "{response:?}");
        ensure!(response.header("x-content-type-options") == Some("nosniff"), "{response:?}");
        let body = "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"web\"\n\t},\n\
            \t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}";
        ensure!(response.text() == body, "{port} answers {}", response.text());
        let port = at(&lab.node2, family, 32_021);
        let response = until_weight(lab, port, 0)?;
        ensure!(response.status()? == 503, "{} at {port}", response.start);
        ensure!(response.text().contains("\"localEndpoints\": 0"), "{}", response.text());
    }

    // The pods move: one leaves, which still serves, and another comes on node2.
    let moved = Offer { pods: vec![&lab.node1.pods[0], &lab.node2.pods[0]], ..offer.clone() };
    let leaves = format!("nodeName: {}", lab.node1.name);
    let is_leaving = format!("conditions: {{ready: false, terminating: true}}\n  {leaves}");
    let written = "conditions: {ready: true, serving: true, terminating: false}\n  ";
    balance_edited(&fixture.manifests, &moved, "Local", 32_021, |yaml| {
        yaml.replace(&format!("{written}{leaves}"), &is_leaving)
    })?;
    for family in Family::ALL {
        let gone = until_weight(lab, at(&lab.node1, family, 32_021), 0)?;
        let come = until_weight(lab, at(&lab.node2, family, 32_021), 1)?;
        ensure!((gone.status()?, come.status()?) == (503, 200), "{gone:?}, {come:?}");
    }
    other.check_running()
}

#[test]
fn another_policy_closes_the_port_and_another_port_opens() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "web", number: 22, pods: vec![&lab.node1.pods[0]] };
    let ports = |number| Family::ALL.map(|family| at(&lab.node1, family, number));
    balance(&fixture.manifests, &offer, "Local", 32_022)?;
    for port in ports(32_022) {
        until_weight(lab, port, 1)?;
    }
    balance(&fixture.manifests, &offer, "Local", 32_023)?;
    for (before, after) in ports(32_022).into_iter().zip(ports(32_023)) {
        until_weight(lab, after, 1)?;
        until_refused(lab, before)?;
    }
    balance(&fixture.manifests, &offer, "Cluster", 32_023)?;
    for port in ports(32_023) {
        until_refused(lab, port)?;
    }
    balance(&fixture.manifests, &offer, "Local", 32_023)?;
    for port in ports(32_023) {
        until_weight(lab, port, 1)?;
    }
    fixture.manifests.remove("web.yaml")?;
    for port in ports(32_023) {
        until_refused(lab, port)?;
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_reported_and_served_once_it_is_free() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let node = &fixture.lab.node1;
    let taken = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 32_024));
    let listener = node.namespace.run(|| Ok(TcpListener::bind(taken)?))?;
    let offer = Offer { name: "web", number: 24, pods: vec![&node.pods[0]] };
    balance(&fixture.manifests, &offer, "Local", 32_024)?;
    let agent = fixture.agent.as_mut().context("the agent runs")?;
    agent.wait_for("Service default/web: node node1 cannot listen on 0.0.0.0:32024")?;
    until_weight(&fixture.lab, at(node, Family::V6, 32_024), 1)?;
    let shown = weir(node, &["show", "services"])?;
    ensure!(shown.contains("cannot listen on 0.0.0.0:32024"), "{shown}");
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_249));
    let counted = probe(&node.namespace, metrics, "GET /metrics")?.text();
    ensure!(counted.contains("weir_health_check_listeners 1\n"), "{counted}");

    drop(listener);
    until_weight(&fixture.lab, at(node, Family::V4, 32_024), 1)?;
    until("the warning is gone", CHANGE, || {
        let shown = weir(node, &["show", "services"])?;
        ensure!(!shown.contains("cannot listen"), "{shown}");
        Ok(())
    })
}

#[test]
fn ranges_of_node_port_addresses_narrow_where_it_is_asked() -> Result<()> {
    let arguments = ["--nodeport-addresses", "172.30.0.0/16"];
    let Some(fixture) = Fixture::start_with(Shape::default(), &arguments)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let node = &lab.node1;
    let offer = Offer { name: "web", number: 25, pods: vec![&node.pods[0]] };
    balance(&fixture.manifests, &offer, "Local", 32_025)?;
    for family in Family::ALL {
        until_weight(lab, at(node, family, 32_025), 1)?;
    }
    let error = node
        .namespace
        .run(|| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, 32_025))?))
        .expect_err("127.0.0.1 is not within the range");
    ensure!(is_refusal(&error), "{error:#}");
    let loopback = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 32_025));
    ensure!(probe(&node.namespace, loopback, "GET /")?.status()? == 200, "IPv6 is not narrowed");
    Ok(())
}

/// Lets `offer` be a load balancer's, asked about at `port` under this external traffic policy.
fn balance(manifests: &Manifests, offer: &Offer, policy: &str, port: u16) -> Result<()> {
    balance_edited(manifests, offer, policy, port, |yaml| yaml)
}

fn balance_edited(
    manifests: &Manifests,
    offer: &Offer,
    policy: &str,
    port: u16,
    edit: impl FnOnce(String) -> String,
) -> Result<()> {
    let kind = format!(
        "  type: LoadBalancer\n  externalTrafficPolicy: {policy}\n  healthCheckNodePort: {port}\n"
    );
    let yaml = edit(offer.yaml().replace("  type: NodePort\n", &kind));
    manifests.write(&format!("{}.yaml", offer.name), &yaml)
}

fn at(node: &Node, family: Family, port: u16) -> SocketAddr {
    (node.addresses.of(family), port).into()
}

/// Waits until `port` responds to the client outside with this many endpoints.
fn until_weight(lab: &Lab, port: SocketAddr, weight: usize) -> Result<Message> {
    until(&format!("{port} answers with {weight} endpoints"), CHANGE, || {
        let response = probe(&lab.client, port, "GET /healthz")?;
        let found = response.header("x-load-balancing-endpoint-weight");
        ensure!(found == Some(weight.to_string().as_str()), "{response:?}");
        Ok(response)
    })
}

/// Waits until connections to `port` are refused.
fn until_refused(lab: &Lab, port: SocketAddr) -> Result<()> {
    until(&format!("{port} is closed"), CHANGE, || {
        let connected = lab.client.run(|| Ok(TcpStream::connect_timeout(&port, TIMEOUT)?));
        match connected {
            Ok(_) => bail!("{port} takes connections"),
            Err(error) if is_refusal(&error) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
