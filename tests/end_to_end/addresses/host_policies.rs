//! What is rejected, a process of the node is told at once; what policy drops is as silent to it as to everybody else.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use lb_userspace::datapath::features::Features;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Lab, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, attempt};
use weir_tests::wait::until;

use super::host_processes::{AT_ONCE, CHANGE, connected, mapped, of_family, start, udp_socket};

/// Source ranges that contain no address of the lab.
const OUTSIDE: &str = "loadBalancerSourceRanges: [203.0.113.0/24, '2001:db8:ffff::/48']";

/// How long a connection may take whose first packets were dropped: they are sent again after 1, 3 and 7 seconds.
const RESENT: Duration = Duration::from_secs(15);

#[test]
fn what_nobody_serves_is_refused_at_once() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let nobody = Offer { name: "nobody", number: 31, pods: Vec::new() };
    fixture.manifests.offer(&nobody)?;
    for family in Family::ALL {
        let [cluster_ip, node_port] = of_family(lab, &nobody, family);
        gets(lab, cluster_ip, rejected())?;
        gets(lab, node_port, rejected())?;
        // A datagram socket may be connected there, to learn which source address it would have.
        let missing = SocketAddr::new(cluster_ip.ip(), Offer::PORT + 1);
        let result = attempt(&lab.node1.namespace, missing, Protocol::TCP, AT_ONCE)?;
        ensure!(result == rejected(), "{missing}/tcp: {result:?}");
        connected(lab, missing)?;
        let error = udp_socket(lab, missing)?.send_to(b"?", missing).err();
        let kind = error.as_ref().map(std::io::Error::kind);
        let wanted = if rejected() == AttemptResult::Refused {
            ErrorKind::ConnectionRefused
        } else {
            ErrorKind::PermissionDenied
        };
        ensure!(kind == Some(wanted), "{missing}/udp: {error:?}");
    }
    Ok(())
}

#[test]
fn without_a_local_endpoint_a_process_waits_until_there_is_one() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let mut offer = Offer { name: "remote", number: 32, pods: lab.node2.pods.iter().collect() };
    let spec = vec!["internalTrafficPolicy: Local", "externalTrafficPolicy: Local"];
    let rules = Rules { spec, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    for family in Family::ALL {
        let [cluster_ip, node_port] = of_family(lab, &offer, family);
        // To this node's own processes the policy for traffic from outside is Cluster.
        gets(lab, node_port, AttemptResult::Replied)?;
        is_silent(&fixture, cluster_ip, Outcome::DroppedNoLocalEndpoint)?;
    }
    let [v4, v6] = Family::ALL.map(|family| of_family(lab, &offer, family)[0]);
    let connect =
        |to: SocketAddr| lab.node1.namespace.run(|| Ok(TcpStream::connect_timeout(&to, RESENT)?));
    offer.pods.push(&lab.node1.pods[0]);
    thread::scope(|scope| {
        let waiting = [v4, v6].map(|to| (to, scope.spawn(move || connect(to))));
        // Their first packets are dropped.
        thread::sleep(AT_ONCE);
        fixture.manifests.offer_under(&offer, &rules)?;
        for (to, thread) in waiting {
            let stream = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let stream = stream.with_context(|| format!("{to} is not reached"))?;
            ensure!(stream.peer_addr()? == to, "{to}: {}", stream.peer_addr()?);
        }
        Ok(())
    })
}

#[test]
fn source_ranges_hold_for_the_node_too() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "closed", number: 33, pods: lab.node1.pods.iter().collect() };
    let own = &lab.node1.addresses;
    let within = format!("loadBalancerSourceRanges: [{}/32, '{}/128']", own.v4, own.v6);
    let vips = Family::ALL.map(|family| SocketAddr::new(offer.vips().of(family), Offer::PORT));
    let under = |range| Rules { is_balanced: true, spec: vec![range], ..Rules::default() };
    fixture.manifests.offer_under(&offer, &under(OUTSIDE))?;
    for vip in vips {
        is_silent(&fixture, vip, Outcome::DroppedSourceRange)?;
    }
    fixture.manifests.offer_under(&offer, &under(&within))?;
    for vip in vips {
        gets(lab, vip, AttemptResult::Replied)?;
    }
    Ok(())
}

#[test]
fn at_an_address_of_the_node_itself_what_policy_drops_is_forbidden() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "closed", number: 33, pods: lab.node1.pods.iter().collect() };
    let vips = offer.vips();
    lab.node1
        .namespace
        .ip(&format!("addr add {} dev lo\naddr add {} dev lo\n", vips.v4, vips.v6))?;
    let rules = Rules { is_balanced: true, spec: vec![OUTSIDE], ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    for family in Family::ALL {
        let vip = SocketAddr::new(vips.of(family), Offer::PORT);
        gets(lab, vip, AttemptResult::Forbidden)?;
    }
    Ok(())
}

#[test]
fn without_a_route_the_kernel_itself_says_so() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "closed", number: 33, pods: lab.node1.pods.iter().collect() };
    let rules = Rules { is_balanced: true, spec: vec![OUTSIDE], ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    let vips = Family::ALL.map(|family| SocketAddr::new(offer.vips().of(family), Offer::PORT));
    for vip in vips {
        is_silent(&fixture, vip, Outcome::DroppedSourceRange)?;
    }
    lab.node1.namespace.ip("route delete default\nroute delete ::/0\n")?;
    for vip in vips {
        let stream = lab.node1.namespace.run(|| Ok(TcpStream::connect_timeout(&vip, AT_ONCE)))?;
        let error = stream.err().with_context(|| format!("{vip} is reached"))?;
        ensure!(error.kind() == ErrorKind::NetworkUnreachable, "{vip}/tcp: {error}");
        let error = udp_socket(lab, vip)?.send_to(b"?", vip).err();
        let kind = error.as_ref().map(std::io::Error::kind);
        ensure!(kind == Some(ErrorKind::NetworkUnreachable), "{vip}/udp: {error:?}");
    }
    Ok(())
}

/// How a rejected call fails: with `EPERM` on kernels where a program cannot set another error.
pub fn rejected() -> AttemptResult {
    if Features::of_this_kernel().sets_errors() {
        AttemptResult::Refused
    } else {
        AttemptResult::Forbidden
    }
}

/// Checks that what processes send to `at` by TCP, and by UDP of both kinds of sockets, gets no answer and no error once
/// Weir drops it with `outcome`.
fn is_silent(fixture: &Fixture, at: SocketAddr, outcome: Outcome) -> Result<()> {
    let lab = &fixture.lab;
    until("packets are dropped", CHANGE, || {
        let before = fixture.counted(outcome)?;
        connected(lab, at)?.send(b"?")?;
        ensure!(fixture.counted(outcome)? > before, "no packet to {at} is {outcome}");
        Ok(())
    })?;
    for to in [Some(at), mapped(at)].into_iter().flatten() {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let before = fixture.counted(outcome)?;
            let result = attempt(&lab.node1.namespace, to, protocol, AT_ONCE)?;
            ensure!(result == AttemptResult::NoReply, "{to}/{protocol}: {result:?}");
            ensure!(fixture.counted(outcome)? > before, "{to}/{protocol}: not {outcome}");
        }
        let socket = udp_socket(lab, to)?;
        socket.set_read_timeout(Some(AT_ONCE))?;
        let before = fixture.counted(outcome)?;
        socket.send_to(b"?", to).with_context(|| format!("{to}/udp"))?;
        let error = socket.recv(&mut [0]).err().with_context(|| format!("{to}/udp: a reply"))?;
        ensure!(error.kind() == ErrorKind::WouldBlock, "{to}/udp: {error}");
        ensure!(fixture.counted(outcome)? > before, "{to}/udp: not {outcome}");
    }
    Ok(())
}

/// Checks the result of connections to `at`, by TCP and UDP, once Weir serves it.
pub fn gets(lab: &Lab, at: SocketAddr, expected: AttemptResult) -> Result<()> {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        until("the Service is known", CHANGE, || {
            let begun = Instant::now();
            let result = attempt(&lab.node1.namespace, at, protocol, AT_ONCE)?;
            let took = begun.elapsed();
            ensure!(
                result == expected && took < AT_ONCE,
                "{at}/{protocol}: {result:?} after {took:?}"
            );
            Ok(())
        })?;
    }
    Ok(())
}
