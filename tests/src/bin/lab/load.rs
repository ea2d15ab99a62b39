//! The demonstration's traffic: which client uses which Service.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use weir_tests::lab::{Lab, addresses};
use weir_tests::traffic::{Flow, Origin};

/// Traffic of one kind, as one line of the table.
pub struct Load<'a> {
    /// The Service it is for.
    pub service: &'static str,
    /// What it is, for people.
    pub title: String,
    /// The flow that is begun again and again.
    pub flow: Flow<'a>,
}

/// A pod's, an outside client's and the node's own traffic to the sample Services, in both families.
pub fn all(lab: &Lab) -> Vec<Load<'_>> {
    let mut loads = Vec::new();
    for (service, number, port, node_port, protocol) in
        [("web", 1, 80, 30080, Protocol::TCP), ("echo", 2, 7, 30007, Protocol::UDP)]
    {
        for family in Family::ALL {
            let cluster_ip = (addresses::service(number).of(family), port);
            let node = (lab.node1.addresses.of(family), node_port);
            let others = [
                (Origin::Pod(&lab.node1.pods[0]), "web-1", cluster_ip),
                (Origin::Outside, "outside", node),
            ];
            let host = lab.node1.cgroup.is_some();
            let of_the_host = host.then_some((Origin::Host, "node1", cluster_ip));
            for (origin, from, frontend) in others.into_iter().chain(of_the_host) {
                let frontend = SocketAddr::from(frontend);
                loads.push(Load {
                    service,
                    title: format!("{from} → {service} {frontend}/{protocol}"),
                    flow: Flow { origin, frontend, protocol },
                });
            }
        }
    }
    loads
}
