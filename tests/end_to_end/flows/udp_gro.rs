//! Datagrams that arrive close together are put together on their way into the node (GRO), into a list or
//! into one packet, and cut again on their way out. All of them arrive, however short they are.

use anyhow::{Result, ensure};
use lb_common::address::Family;
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Shape};
use weir_tests::traffic::Caller;

/// Datagrams of a burst.
const BURST: u16 = 60;

/// Bytes of a datagram: less than a TCP header, about as much, and a packet's worth.
const LENGTHS: [u16; 5] = [2, 12, 40, 53, 1000];

#[test]
fn short_datagrams_that_were_put_together_into_a_list_all_arrive() -> Result<()> {
    check(&["rx-gro-list", "on"])
}

#[test]
fn short_datagrams_that_were_put_together_into_one_packet_all_arrive() -> Result<()> {
    check(&["rx-gro-list", "off", "rx-udp-gro-forwarding", "on"])
}

fn check(features: &[&str]) -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    cut_before_node1(lab, features)?;
    let outcomes = [Outcome::Forwarded, Outcome::ForwardedSnat];
    for (served, outcome) in [ServedBy::LocalPods, ServedBy::RemotePods].into_iter().zip(outcomes) {
        for family in Family::ALL {
            let node_port = served.offer(lab).node_port();
            let frontend = (lab.node1.addresses.of(family), node_port).into();
            let caller = Caller::connect(&lab.client, frontend)?;
            caller.exchange(1)?;
            let before = fixture.counted(outcome)?;
            for length in LENGTHS {
                caller.exchange_burst(BURST, length)?;
            }
            let walks = fixture.counted(outcome)? - before;
            let sent = u64::from(BURST) * LENGTHS.len() as u64;
            ensure!(walks < sent, "{walks} walks for {sent} datagrams: none were put together");
        }
    }
    Ok(())
}

/// Lets the router cut what the client sends in one piece, and node1 put it together again.
fn cut_before_node1(lab: &Lab, features: &[&str]) -> Result<()> {
    let cut = ["-K", "node1", "gso", "off", "tso", "off", "tx-udp-segmentation", "off"];
    lab.network.output("ethtool", &cut)?;
    let together = [&["-K", "eth0", "gro", "on"], features].concat();
    lab.node1.namespace.output("ethtool", &together)?;
    Ok(())
}
