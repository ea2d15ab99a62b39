//! The frontends, and which Service port each belongs to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::address::{Address, Port};
use lb_common::service::{Frontend, FrontendRow};

use super::service_ports::{BalancedPort, about};
use crate::model::Warning;

/// What a frontend's address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrontendKind {
    /// A cluster IP.
    ClusterIp,
    /// An address of a load balancer.
    LoadBalancer,
    /// An external IP.
    ExternalIp,
    /// An address of the node, with a node port.
    NodePort,
}

/// A Service port's claim to a frontend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    /// Index of the Service port.
    pub(super) port: usize,
    /// What its address is.
    pub(super) kind: FrontendKind,
}

/// Frontends, each with the claim that wins.
pub(super) type Claims<A> = BTreeMap<Frontend<A>, Claim>;

/// The order in which claims win. A load balancer's address comes before the same address as an
/// external IP, which has no source ranges.
const PRECEDENCE: [&[FrontendKind]; 3] = [
    &[FrontendKind::ClusterIp],
    &[FrontendKind::LoadBalancer, FrontendKind::ExternalIp],
    &[FrontendKind::NodePort],
];

/// The frontends of family `A`, each with the one Service port that gets it. `nodes` are this
/// node's addresses that serve node ports.
///
/// Where several Service ports claim one, a cluster IP wins over other addresses and those over node
/// ports, then the first by Service name: which Service is older is not known, and all nodes must
/// agree.
pub(super) fn claimed<A: Address>(
    ports: &[BalancedPort<'_>],
    nodes: &[A],
    honours_external_ips: bool,
    warnings: &mut Vec<Warning>,
) -> Claims<A> {
    let mut claimed = BTreeMap::new();
    let each = |rank: &'static [FrontendKind]| {
        let ports = ports.iter().enumerate();
        ports.flat_map(move |port| rank.iter().map(move |kind| (*kind, port)))
    };
    for (kind, (index, port)) in PRECEDENCE.into_iter().flat_map(each) {
        if honours_external_ips || kind != FrontendKind::ExternalIp {
            for frontend in frontends(port, kind, nodes) {
                let claim = Claim { port: index, kind };
                let winner = *claimed.entry(frontend).or_insert(claim);
                let winner = ports.get(winner.port).filter(|_| winner.port != index);
                if let Some(winner) = winner.filter(|_| port.is_planned) {
                    warnings.push(conflict(port, &frontend, winner));
                }
            }
        }
    }
    claimed
}

/// Removes from `claimed` what does not fit into a map that holds `before` and has room for so many more;
/// returns whether that is anything. Frontends in `before` stay; of the others, those of the first
/// Services are kept.
pub(super) fn fit<A: Address>(
    claimed: &mut Claims<A>,
    before: &BTreeMap<Frontend<A>, FrontendRow>,
    room: usize,
) -> bool {
    let mut new: Vec<(usize, Frontend<A>)> = Vec::new();
    let is_new = claimed.iter().filter(|(frontend, _)| !before.contains_key(frontend));
    new.extend(is_new.map(|(frontend, claim)| (claim.port, *frontend)));
    if new.len() <= room {
        return false;
    }
    new.sort_unstable();
    for (_, frontend) in new.split_off(room) {
        claimed.remove(&frontend);
    }
    true
}

fn conflict<A: Address>(
    port: &BalancedPort<'_>,
    frontend: &Frontend<A>,
    winner: &BalancedPort<'_>,
) -> Warning {
    Warning {
        about: about(&port.service.name),
        text: format!(
            "is not served at {frontend}, which belongs to {winner}: change one of the two"
        ),
    }
}

fn frontends<A: Address>(
    port: &BalancedPort<'_>,
    kind: FrontendKind,
    nodes: &[A],
) -> Vec<Frontend<A>> {
    let Some(cluster_ip) = port.cluster_ip() else {
        return Vec::new();
    };
    let number = port.port.port;
    let of = |ips: &[IpAddr]| ips.iter().filter_map(|ip| A::from_ip(*ip)).collect();
    let (addresses, number): (Vec<A>, u16) = match (kind, port.port.node_port) {
        (FrontendKind::ClusterIp, _) => (vec![cluster_ip], number),
        (FrontendKind::LoadBalancer, _) => (of(&port.service.load_balancer_ips), number),
        (FrontendKind::ExternalIp, _) => (of(&port.service.external_ips), number),
        (FrontendKind::NodePort, Some(number)) => (nodes.to_vec(), number),
        (FrontendKind::NodePort, None) => return Vec::new(),
    };
    let at = |address| Frontend::new(address, Port::new(number), port.port.protocol);
    addresses.into_iter().map(at).collect()
}
