//! Pods start and stop, and their devices come and go: Weir follows.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use lb_common::address::{Family, Protocol};
use lb_userspace::datapath::attach::Tc;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Node, Shape, addresses};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, Flow, Origin, Servers};
use weir_tests::wait::until;

#[test]
fn a_pod_that_starts_later_reaches_services_and_serves_them() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    for _ in 0..3 {
        fixture.lab.start_pod()?;
        let pod = fixture.lab.node1.pods.last().context("no pod has started")?;
        let servers = Servers::start(&pod.namespace, &pod.name)?;
        let mut offer = ServedBy::OnePod.offer(&fixture.lab);
        offer.pods = vec![pod];
        fixture.manifests.offer(&offer)?;
        for client in [pod, &fixture.lab.node1.pods[0]] {
            for family in Family::ALL {
                let frontend = (offer.cluster_ips().of(family), Offer::PORT).into();
                let origin = Origin::Pod(client);
                let flow = Flow { origin, frontend, protocol: Protocol::TCP };
                until_served_by(&pod.name, &fixture, &flow)?;
            }
        }
        drop(servers);
        fixture.lab.stop_pod()?;
    }
    Ok(())
}

#[test]
fn a_device_that_is_removed_is_noticed_and_so_is_the_next_one() -> Result<()> {
    let Some(mut fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let agent = fixture.agent.take().context("no agent")?;
    let until_logged = |words: &str, times: usize| {
        until(words, Duration::from_secs(10), || {
            ensure!(agent.lines(words).len() == times, "its log:\n{}", agent.log());
            Ok(())
        })
    };
    for time in 1..=3 {
        fixture.lab.start_pod()?;
        until_logged("pod4 faces a pod", time)?;
        fixture.lab.stop_pod()?;
        until_logged("pod4 is gone", time)?;
    }
    Ok(())
}

/// As a DHCP client does that renews a lease, or an administrator who replaces an address.
#[test]
fn a_device_that_loses_its_addresses_for_a_moment_keeps_its_programs_and_connections() -> Result<()>
{
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let (lab, node) = (&fixture.lab, &fixture.lab.node1);
    let offer = ServedBy::AllPods.offer(lab);
    let mut connections = Vec::new();
    for family in Family::ALL {
        let frontend = (node.addresses.of(family), offer.node_port()).into();
        for _ in 0..10 {
            let mut connection = Client::connect(&lab.client, frontend)?;
            let pod = connection.exchange(1)?.pod;
            connections.push((connection, pod));
        }
    }
    let before = programs(node)?;
    let (own, gateway) = (node.addresses, addresses::NODE_GATEWAY);
    let (other, pods) = (lab.node2.addresses, addresses::pod(2, 0));
    let again = format!(
        "addr add {}/24 dev eth0
         addr add {}/64 dev eth0
         route replace default via {}
         route replace default via {}
         route replace {}/24 via {}
         route replace {}/64 via {}
        ",
        own.v4, own.v6, gateway.v4, gateway.v6, pods.v4, other.v4, pods.v6, other.v6
    );
    // The default route of IPv4 goes with the addresses; that of IPv6 alone would give the device its role.
    let away = format!("addr flush dev eth0 scope global\nroute del default via {}\n", gateway.v6);
    let agent = fixture.agent.as_ref().context("no agent")?;
    for time in 1..=3 {
        node.namespace.ip(&away)?;
        until("the agent notices", Duration::from_secs(10), || {
            let noticed = agent.lines("eth0 would lose its role").len();
            ensure!(noticed == time, "{noticed} times of {time}:\n{}", agent.log());
            Ok(())
        })?;
        node.namespace.ip(&again)?;
        until("the agent notices that it is back", Duration::from_secs(10), || {
            let back = agent.lines("eth0 has its role again").len();
            ensure!(back == time, "{back} times of {time}:\n{}", agent.log());
            Ok(())
        })?;
    }
    ensure!(programs(node)? == before, "programs were attached anew");
    let log = agent.log();
    ensure!(!log.contains("eth0 is left alone"), "{log}");
    for (connection, pod) in &mut connections {
        let response = connection.exchange(100_000).context("a connection was broken")?;
        ensure!(response.pod == *pod, "{pod}'s connection went on at {}", response.pod);
    }
    fixture.check_traffic()
}

/// The ids of the programs on eth0, and how often something was attached there; nothing where kernels cannot be asked.
fn programs(node: &Node) -> Result<Vec<(u64, Vec<u32>)>> {
    node.namespace.run(|| {
        let hooks = [TcAttachType::Ingress, TcAttachType::Egress];
        let links = hooks.into_iter().filter(|_| Tc::of_this_kernel() == Tc::Tcx);
        let query = |hook| {
            let (revision, programs) = SchedClassifier::query_tcx("eth0", hook)?;
            Ok((revision, programs.iter().map(ProgramInfo::id).collect()))
        };
        links.map(query).collect()
    })
}

fn until_served_by(pod: &str, fixture: &Fixture, flow: &Flow) -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match flow.send(&fixture.lab, 1) {
            Ok(response) if response.pod == pod => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < deadline => {}
            outcome => {
                outcome?;
                ensure!(false, "{flow} is not served by {pod} within {TIMEOUT:?}");
            }
        }
    }
}
