//! A Service without any endpoint rejects at once; one with remote endpoints alone drops where its policy
//! is Local, as do addresses that no Service has. Addresses of Services reply to pings.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Namespace, Shape, addresses};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, attempt, ping};
use weir_tests::wait::until;

/// How long a refusal may take. The ICMP error about the first packet of a TCP connection may come
/// while `connect` still holds the socket; the kernel then acts on the next one, a second later, see
/// `LockDroppedIcmps`. The one after that would be sent three seconds after the first.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// How long there must be no reply for packets to be dropped.
const SILENCE: Duration = Duration::from_millis(300);

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn a_service_without_endpoints_refuses_at_once() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let offer = Offer { name: "nobody", number: 31, pods: Vec::new() };
    let rules = Rules { is_balanced: true, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    let at = Family::ALL.map(|family| frontends(&fixture.lab, &offer, family)).concat();
    all_get(&clients(&fixture.lab), &at, AttemptResult::Refused)?;

    // A Service that loses its last endpoint, as well.
    let offer = Offer { pods: Vec::new(), ..ServedBy::LocalPods.offer(&fixture.lab) };
    fixture.manifests.offer(&offer)?;
    let at = Family::ALL.map(|family| (offer.cluster_ips().of(family), Offer::PORT).into());
    all_get(&clients(&fixture.lab), &at, AttemptResult::Refused)
}

#[test]
fn a_cluster_ip_refuses_at_ports_that_its_service_does_not_have() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let offer = ServedBy::AllPods.offer(&fixture.lab);
    let at = Family::ALL.map(|family| (offer.cluster_ips().of(family), Offer::PORT + 1).into());
    all_get(&clients(&fixture.lab), &at, AttemptResult::Refused)
}

#[test]
fn clients_outside_get_no_reply_where_the_only_endpoints_are_remote() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "far", number: 32, pods: lab.node2.pods.iter().collect() };
    let spec = vec!["externalTrafficPolicy: Local"];
    let rules = Rules { is_balanced: true, spec, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    let of_family = |family| {
        let [_, vip, node_port] = frontends(lab, &offer, family);
        [vip, node_port]
    };
    let at = Family::ALL.map(of_family).concat();
    let [pod, client] = clients(lab);
    // Pods are served, which shows that the Service is known.
    all_get(&[pod], &at, AttemptResult::Replied)?;
    let before = fixture.counted(Outcome::DroppedNoLocalEndpoint)?;
    all_get(&[client], &at, AttemptResult::NoReply)?;
    let dropped = fixture.counted(Outcome::DroppedNoLocalEndpoint)? - before;
    ensure!(dropped >= 8, "of eight packets {dropped} were dropped by Weir");
    Ok(())
}

#[test]
fn addresses_of_no_service_are_silent() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let ranges = "apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/24, 'fd96::/112']}
";
    fixture.manifests.write("ranges.yaml", ranges)?;
    let free = addresses::service(250);
    let at = Family::ALL.map(|family| SocketAddr::from((free.of(family), Offer::PORT)));
    until("the range of Services is known", CHANGE, || {
        let before = fixture.counted(Outcome::DroppedUnallocatedAddress)?;
        all_get(&clients(&fixture.lab), &at, AttemptResult::NoReply)?;
        let dropped = fixture.counted(Outcome::DroppedUnallocatedAddress)? - before;
        ensure!(dropped >= 8, "of eight packets {dropped} were dropped by Weir");
        Ok(())
    })
}

#[test]
fn addresses_of_services_reply_to_pings() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "pinged", number: 33, pods: vec![&lab.node2.pods[0]] };
    let rules = Rules { is_balanced: true, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    for family in Family::ALL {
        for address in [offer.cluster_ips().of(family), offer.vips().of(family)] {
            let host = lab.node1.cgroup.is_some().then_some(&lab.node1.namespace);
            for client in clients(lab).into_iter().chain(host) {
                until("the Service is known", CHANGE, || ping(client, address, 56, AT_ONCE))?;
                for length in [0, 1, 1400] {
                    ping(client, address, length, AT_ONCE)?;
                }
            }
        }
        // Pings to other addresses are left alone.
        ping(&lab.client, lab.node1.addresses.of(family), 56, AT_ONCE)?;
        ping(&lab.node1.pods[0].namespace, lab.node2.pods[0].addresses.of(family), 56, AT_ONCE)?;
    }
    Ok(())
}

/// ClusterIP, VIP and node port.
fn frontends(lab: &Lab, offer: &Offer, family: Family) -> [SocketAddr; 3] {
    let at = |address: IpAddr, port| SocketAddr::from((address, port));
    [
        at(offer.cluster_ips().of(family), Offer::PORT),
        at(offer.vips().of(family), Offer::PORT),
        at(lab.node1.addresses.of(family), offer.node_port()),
    ]
}

/// A pod and the client outside.
fn clients(lab: &Lab) -> [&Namespace; 2] {
    [&lab.node1.pods[1].namespace, &lab.client]
}

/// Checks the result of connections to each of `frontends`, all at once.
fn all_get(
    clients: &[&Namespace],
    frontends: &[SocketAddr],
    expected: AttemptResult,
) -> Result<()> {
    thread::scope(|scope| {
        let mut attempts = Vec::new();
        for client in clients {
            for frontend in frontends {
                for protocol in [Protocol::TCP, Protocol::UDP] {
                    attempts.push(scope.spawn(move || gets(client, *frontend, protocol, expected)));
                }
            }
        }
        let mut joined = attempts.into_iter().map(|attempt| attempt.join());
        joined.try_for_each(|met| met.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Checks the result of a connection, once the agent has followed the manifests.
fn gets(
    client: &Namespace,
    frontend: SocketAddr,
    protocol: Protocol,
    expected: AttemptResult,
) -> Result<()> {
    let timeout = if expected == AttemptResult::NoReply { SILENCE } else { AT_ONCE };
    until("the agent follows the manifests", CHANGE, || {
        let began = Instant::now();
        let result = attempt(client, frontend, protocol, timeout)?;
        ensure!(result == expected, "{result:?} after {:?}", began.elapsed());
        Ok(())
    })
    .with_context(|| format!("{frontend}/{protocol} from {} is not {expected:?}", client.name()))
}
