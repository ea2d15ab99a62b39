//! The addresses of the node that serve node ports, and those that its packets to other nodes' backends have as source.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::util::KernelVersion;
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape, addresses};
use weir_tests::traffic::{AttemptResult, Client, ask, attempt};
use weir_tests::wait::until;

/// A further address of each node, in a subnet that both have; the last byte is the node's.
const SUBNET: [&str; 2] = ["172.31.0", "fd31::"];

#[test]
fn what_is_sent_to_a_backend_has_the_address_that_the_kernel_chooses() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    if KernelVersion::current()? < KernelVersion::new(6, 7, 0) {
        // The kernel does not say.
        return Ok(());
    }
    let lab = &fixture.lab;
    let [v4, v6] = SUBNET;
    for (node, number) in [(&lab.node1, 1), (&lab.node2, 2)] {
        node.namespace.ip(&format!(
            "addr add {v4}.1{number}/24 dev eth0\naddr add {v6}1{number}/64 dev eth0\n"
        ))?;
    }
    seen(lab).context("by the first subnet")?;
    let pods = addresses::pod(2, 0);
    lab.node1.namespace.ip(&format!(
        "route replace {}/24 via {v4}.12\nroute replace {}/64 via {v6}12\n",
        pods.v4, pods.v6
    ))?;
    seen(lab).context("by a next hop of the second subnet")?;
    let first = lab.node1.addresses;
    lab.node1.namespace.ip(&format!(
        "route replace {}/24 via {v4}.12 src {}\nroute replace {}/64 via {v6}12 src {}\n",
        pods.v4, first.v4, pods.v6, first.v6
    ))?;
    seen(lab).context("by a route with an address")
}

/// Checks that flows that begin from now on have the address, TCP and UDP, that node1's own packets would have.
fn seen(lab: &Lab) -> Result<()> {
    let offer = ServedBy::RemotePods.offer(lab);
    for family in Family::ALL {
        let expected = chosen_by_kernel(lab, offer.pods[0].addresses.of(family))?;
        let frontend: SocketAddr = (lab.node1.addresses.of(family), offer.node_port()).into();
        // A route is cached for a tenth of a second.
        until("a backend sees the address", Duration::from_secs(5), || {
            let by_tcp = Client::connect(&lab.client, frontend)?.exchange(1)?.client;
            let by_udp = ask(&lab.client, frontend, 1)?.client;
            ensure!(
                [by_tcp.ip(), by_udp.ip()] == [expected; 2],
                "{by_tcp} and {by_udp}, not {expected}"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// The source address of node1's own packets to `destination`.
fn chosen_by_kernel(lab: &Lab, destination: IpAddr) -> Result<IpAddr> {
    let route = lab.node1.namespace.output("ip", &["route", "get", &destination.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "src");
    let address = words.nth(1).with_context(|| format!("no source address in {route}"))?;
    Ok(address.parse()?)
}

/// An anycast address of each family, within the VIPs' ranges, which the network sends to node1.
const ANYCAST: [&str; 2] = ["203.0.113.200", "fd20::c8"];

#[test]
fn addresses_on_the_loopback_device_serve_node_ports_while_they_are_there() -> Result<()> {
    let within = ["--nodeport-addresses", "203.0.113.0/24,fd20::/64"];
    let Some(fixture) = Fixture::start_with(Shape::default(), &within)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let change = |verb: &str| {
        let [v4, v6] = ANYCAST;
        lab.node1
            .namespace
            .ip(&format!("addr {verb} {v4}/32 dev lo\naddr {verb} {v6}/128 dev lo\n"))
    };
    let each = |expected: AttemptResult| -> Result<()> {
        for served in ServedBy::ALL {
            for address in ANYCAST {
                let address: IpAddr = address.parse()?;
                let frontend = (address, served.offer(lab).node_port()).into();
                for protocol in [Protocol::TCP, Protocol::UDP] {
                    let what = format!("{served:?} at {frontend}/{protocol}: {expected:?}");
                    until(&what, Duration::from_secs(10), || {
                        let second = Duration::from_secs(1);
                        let result = attempt(&lab.client, frontend, protocol, second)?;
                        ensure!(result == expected, "{result:?}");
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    };
    change("add")?;
    each(AttemptResult::Replied)?;
    // Nobody has the address then: its packets go back to the router.
    change("del")?;
    let address: IpAddr = ANYCAST[0].parse()?;
    let frontend = (address, ServedBy::AllPods.offer(lab).node_port()).into();
    until("it is served no more", Duration::from_secs(10), || {
        let result = attempt(&lab.client, frontend, Protocol::TCP, Duration::from_millis(300))?;
        ensure!(result != AttemptResult::Replied, "{result:?}");
        Ok(())
    })
}
