//! Sockets that the node's kernel itself has: no program sees what they connect or send to.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lb_common::address::Family;
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{ECHO_PORT, ping};
use weir_tests::wait::until;

use crate::addresses::host_processes::{CHANGE, start};

/// The port of the tunnel's two ends, on which nothing else listens.
const TUNNEL: u16 = 4789;

/// How long a ping may take.
const REPLY: Duration = Duration::from_millis(500);

#[test]
fn a_tunnel_of_the_kernel_leads_to_a_service() -> Result<()> {
    let Some(fixture) = start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    for (number, pod) in [(47, &lab.node1.pods[0]), (48, &lab.node2.pods[0])] {
        let offer = Offer { name: "tunnel", number, pods: vec![pod] };
        let yaml = offer.yaml();
        let yaml = yaml.replace(&ECHO_PORT.to_string(), &TUNNEL.to_string());
        let yaml = yaml.replace("UDP, port: 80,", &format!("UDP, port: {TUNNEL},"));
        fixture.manifests.write("tunnel.yaml", &yaml)?;
        let service = offer.cluster_ips().of(Family::V4);
        let node = lab.node1.addresses.of(Family::V4);
        let end = |remote, device, address| {
            format!(
                "link add tunnel0 type vxlan id 7 remote {remote} dev {device} dstport {TUNNEL}
                 link set tunnel0 up
                 addr add {address}/24 dev tunnel0
                "
            )
        };
        lab.node1.namespace.ip(&end(service, "eth0", "198.18.0.1"))?;
        pod.namespace.ip(&end(node, "eth0", "198.18.0.2"))?;
        let peer = SocketAddr::from(([198, 18, 0, 2], 0)).ip();
        until("the other end answers", CHANGE, || ping(&lab.node1.namespace, peer, 56, REPLY))?;
        lab.node1.namespace.ip("link delete tunnel0")?;
    }
    Ok(())
}
