//! `loadBalancerSourceRanges` close a Service's VIPs to all other sources, pods as well; its other
//! frontends stay open.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Namespace, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{AttemptResult, attempt};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

/// How long a reply may take, and how long there must be none where packets are dropped.
const REPLY: Duration = Duration::from_millis(900);
const SILENCE: Duration = Duration::from_millis(300);

const CLIENT: &str = "loadBalancerSourceRanges: ['198.51.100.0/24', '2001:db8::/64']";
const PODS: &str = "loadBalancerSourceRanges: ['10.244.0.0/16', 'fd44::/16']";
const EVERYBODY: &str = "loadBalancerSourceRanges: ['0.0.0.0/0', '::/0']";

#[test]
fn vips_serve_clients_within_their_ranges_alone() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = Offer { name: "ranged", number: 34, pods: lab.pods().collect() };
    let (client, pod) = (&lab.client, &lab.node1.pods[1].namespace);
    for (ranges, open_to) in
        [(CLIENT, vec![client]), (PODS, vec![pod]), (EVERYBODY, vec![client, pod])]
    {
        let rules = Rules { is_balanced: true, spec: vec![ranges], ..Rules::default() };
        fixture.manifests.offer_under(&offer, &rules)?;
        for family in Family::ALL {
            let vip = (offer.vips().of(family), Offer::PORT).into();
            for from in [client, pod] {
                let is_open = open_to.iter().any(|other| other.name() == from.name());
                let expected =
                    if is_open { AttemptResult::Replied } else { AttemptResult::NoReply };
                gets(from, vip, expected)?;
            }
            // What the ranges do not speak of.
            let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
            let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
            for from in [client, pod] {
                gets(from, node_port, AttemptResult::Replied)?;
                gets(from, cluster_ip, AttemptResult::Replied)?;
            }
        }
    }
    ensure!(fixture.counted(Outcome::DroppedSourceRange)? > 0, "packets were not dropped by Weir");
    Ok(())
}

fn gets(from: &Namespace, frontend: SocketAddr, expected: AttemptResult) -> Result<()> {
    for protocol in [Protocol::TCP, Protocol::UDP] {
        let timeout = if expected == AttemptResult::NoReply { SILENCE } else { REPLY };
        until(
            &format!("{frontend}/{protocol} from {} is {expected:?}", from.name()),
            CHANGE,
            || {
                let result = attempt(from, frontend, protocol, timeout)?;
                ensure!(result == expected, "it is {result:?}");
                Ok(())
            },
        )?;
    }
    Ok(())
}
