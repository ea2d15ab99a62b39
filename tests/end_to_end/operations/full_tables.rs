//! More entries than a table has room for: what does not fit is left out, with a warning that says what
//! to do; all else is served, and once there is room again everything is.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::maps::{Capacity, SRC_RANGES};
use serde_json::Value;
use weir_tests::agent::weir;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Shape, addresses};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, Client, HTTP_PORT, attempt, get};
use weir_tests::wait::until;

/// How long a change of the manifests may take, with tens of thousands of rows to write.
const CHANGE: Duration = Duration::from_secs(60);

/// How long a reply may take, or none must come.
const REPLY: Duration = Duration::from_millis(900);

#[test]
fn source_ranges_that_do_not_fit_let_nobody_in_until_there_is_room() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let Capacity::Fixed(room) = SRC_RANGES.v4.capacity else {
        bail!("there is a flag by now: fill a smaller table");
    };
    let mut client = connect(&fixture)?;
    let crowd = Offer { name: "crowd", number: 35, pods: fixture.lab.pods().collect() };
    let late = Offer { name: "late", number: 36, ..crowd.clone() };
    // They count once for each of a Service's two ports.
    let ranges = room / 2;
    allow(&fixture, &crowd, ranges)?;
    until_vips_are(&fixture, &crowd, [AttemptResult::Replied; 2])?;
    ensure!(warnings(&fixture)?.is_empty(), "they just fit");

    allow(&fixture, &late, 1)?;
    until_vips_are(&fixture, &late, [AttemptResult::NoReply, AttemptResult::Replied])?;
    let message = format!("SRC_RANGES_V4 has room for {room} entries of {}", room + 2);
    until_warned(&fixture, &[&message, "loadBalancerSourceRanges"])?;
    until_vips_are(&fixture, &crowd, [AttemptResult::Replied; 2])?;
    all_else_is_served(&fixture, &mut client)?;

    allow(&fixture, &crowd, ranges - 1)?;
    until_vips_are(&fixture, &late, [AttemptResult::Replied; 2])?;
    until_warned(&fixture, &[])?;
    until_vips_are(&fixture, &crowd, [AttemptResult::Replied; 2])?;
    all_else_is_served(&fixture, &mut client)
}

#[test]
fn frontends_and_addresses_that_do_not_fit_wait_until_there_is_room() -> Result<()> {
    let Some(fixture) = Fixture::start_with(Shape::default(), &["--frontend-table-size", "1024"])?
    else {
        return Ok(());
    };
    let mut client = connect(&fixture)?;
    let pod = &fixture.lab.node1.pods[1].namespace;
    fixture.manifests.write("many.yaml", &many(&fixture, 0..1100)?)?;
    let words = [
        "FRONTENDS_V4 has room for 1024",
        "IP_POLICY_V4 has room for 1024",
        "--frontend-table-size",
    ];
    until_warned(&fixture, &words)?;
    ensure!(
        get(pod, (address(1099), Offer::PORT).into()).is_err(),
        "a frontend that did not fit is served"
    );
    all_else_is_served(&fixture, &mut client)?;

    fixture.manifests.write("many.yaml", &many(&fixture, 1000..1100)?)?;
    for number in (1000..1100).step_by(9) {
        let frontend = (address(number), Offer::PORT).into();
        until("there is room again", CHANGE, || get(pod, frontend).map(drop))?;
    }
    until_warned(&fixture, &[])?;
    all_else_is_served(&fixture, &mut client)
}

/// Allows the client outside to use the VIPs of `offer`, and so many ranges of IPv4 in all.
fn allow(fixture: &Fixture, offer: &Offer, ranges: u32) -> Result<()> {
    let client = addresses::CLIENT;
    let mut field = format!("loadBalancerSourceRanges: [{}/32, '{}/128'", client.v4, client.v6);
    for host in 1..ranges {
        let _ = write!(field, ", {}/32", Ipv4Addr::from_bits((11 << 24) + host));
    }
    field.push(']');
    let rules = Rules { is_balanced: true, spec: vec![&field], ..Rules::default() };
    fixture.manifests.offer_under(offer, &rules)
}

/// Services of one port in one family, each served by a pod of node1.
fn many(fixture: &Fixture, numbers: Range<u32>) -> Result<String> {
    let pod = fixture.lab.node1.pods[0].addresses.v4;
    let mut yaml = String::new();
    for number in numbers {
        let address = address(number);
        write!(
            yaml,
            "apiVersion: v1
kind: Service
metadata: {{name: many-{number:04}, namespace: default}}
spec: {{clusterIP: {address}, ports: [{{port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: many-{number:04}
  namespace: default
  labels: {{kubernetes.io/service-name: many-{number:04}}}
addressType: IPv4
ports: [{{name: '', port: {HTTP_PORT}}}]
endpoints: [{{addresses: [{pod}], nodeName: node1}}]
---
",
            port = Offer::PORT,
        )?;
    }
    Ok(yaml)
}

/// The ClusterIP of one of them.
const fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 1, 0).to_bits() + number)
}

/// Waits until the client outside gets these results at the VIPs of `offer`, IPv4's first.
fn until_vips_are(fixture: &Fixture, offer: &Offer, expected: [AttemptResult; 2]) -> Result<()> {
    for (family, expected) in Family::ALL.into_iter().zip(expected) {
        let vip = (offer.vips().of(family), Offer::PORT).into();
        until(&format!("{vip} is {expected:?}"), CHANGE, || {
            let result = attempt(&fixture.lab.client, vip, Protocol::TCP, REPLY)?;
            ensure!(result == expected, "it is {result:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until the agent's warnings have all of these words, or until there are none if these are none.
fn until_warned(fixture: &Fixture, words: &[&str]) -> Result<()> {
    until(&format!("warnings have {words:?}"), CHANGE, || {
        let warnings = warnings(fixture)?;
        ensure!(warnings.is_empty() == words.is_empty(), "{warnings:?}");
        let text = warnings.join("\n");
        ensure!(words.iter().all(|word| text.contains(word)), "{text}");
        Ok(())
    })
}

fn warnings(fixture: &Fixture) -> Result<Vec<String>> {
    let status = weir(&fixture.lab.node1, &["show", "status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&status)?;
    let warnings = status["warnings"].as_array().context("a status without warnings")?;
    Ok(warnings.iter().map(|warning| warning["text"].to_string()).collect())
}

/// A connection to a Service that has nothing to do with what is too much.
fn connect(fixture: &Fixture) -> Result<Client> {
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let node_port = (fixture.lab.node1.addresses.v4, offer.node_port()).into();
    Client::connect(&fixture.lab.client, node_port)
}

/// Checks that `client` goes on, and that the fixture's Services are served.
fn all_else_is_served(fixture: &Fixture, client: &mut Client) -> Result<()> {
    client.exchange(1000).context("a connection was broken")?;
    fixture.check_traffic()
}
