//! SCTP is balanced as TCP is, checksum included, whether or not the kernel has SCTP itself; and
//! nothing makes the kernel load its module.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::address::Family;
use weir_tests::fixture::Fixture;
use weir_tests::lab::Shape;
use weir_tests::manifests::Offer;
use weir_tests::traffic::{HTTP_PORT, SctpServer, associate};
use weir_tests::wait::until;

/// How long a change of the manifests may take.
const CHANGE: Duration = Duration::from_secs(10);

#[test]
fn sctp_is_balanced_without_the_kernels_module() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let had_module = has_module();
    let lab = &fixture.lab;
    let _servers = lab
        .pods()
        .map(|pod| SctpServer::start(&pod.namespace, &pod.name, HTTP_PORT))
        .collect::<Result<Vec<_>>>()?;
    let local = Offer { name: "sctp-local", number: 35, pods: lab.node1.pods.iter().collect() };
    let remote = Offer { name: "sctp-remote", number: 36, pods: lab.node2.pods.iter().collect() };
    let mut own = 40_000;
    for offer in [&local, &remote] {
        let yaml = offer.yaml().replace("protocol: TCP", "protocol: SCTP");
        fixture.manifests.write(&format!("{}.yaml", offer.name), &yaml)?;
        for family in Family::ALL {
            let node_port = SocketAddr::from((lab.node1.addresses.of(family), offer.node_port()));
            let cluster_ip = SocketAddr::from((offer.cluster_ips().of(family), Offer::PORT));
            let clients = [(&lab.client, node_port), (&lab.node1.pods[0].namespace, cluster_ip)];
            // By a raw socket of the node: no program sees its system calls.
            let host = lab.node1.cgroup.is_some().then_some((&lab.node1.namespace, cluster_ip));
            for (client, frontend) in clients.into_iter().chain(host) {
                for _ in 0..5 {
                    own += 1;
                    let (pod, seen) =
                        until("SCTP is served", CHANGE, || associate(client, own, frontend))?;
                    let serves = offer.pods.iter().any(|other| other.name == pod);
                    ensure!(serves, "{pod} replied at {frontend}, seen as {seen}");
                }
            }
        }
    }
    ensure!(has_module() == had_module, "the kernel's sctp module has been loaded meanwhile");
    Ok(())
}

fn has_module() -> bool {
    Path::new("/sys/module/sctp").exists()
}
