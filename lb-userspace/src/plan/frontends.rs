//! Which frontends there are, and whose each is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::address::{Address, Port};
use lb_common::service::{Frontend, FrontendRow};

use super::eligible::Reach;
use super::ports;
use crate::model::Warning;

/// A frontend that a Service port is to answer at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    /// Index of the Service port.
    pub(super) port: usize,
    /// How clients come to it.
    pub(super) reach: Reach,
}

/// Frontends, each with who gets it.
pub(super) type Claims<A> = BTreeMap<Frontend<A>, Claim>;

/// Who goes first where several claim one frontend. A load balancer's address comes before the same
/// as an external IP, which knows no source ranges.
const RANKS: [&[Reach]; 3] =
    [&[Reach::ClusterIp], &[Reach::LoadBalancer, Reach::ExternalIp], &[Reach::NodePort]];

/// The frontends of family `A`, each with the one Service port that gets it. `nodes` are this
/// node's addresses that answer on node ports.
///
/// Where several claim one, a cluster IP wins over other addresses and those over node ports, then
/// the first by Service name: which came first is not known, and all nodes must agree.
pub(super) fn claimed<A: Address>(
    ports: &[ports::Port<'_>],
    nodes: &[A],
    honours_external_ips: bool,
    warnings: &mut Vec<Warning>,
) -> Claims<A> {
    let mut claimed = BTreeMap::new();
    let each = |rank: &'static [Reach]| {
        let ports = ports.iter().enumerate();
        ports.flat_map(move |port| rank.iter().map(move |reach| (*reach, port)))
    };
    for (reach, (index, port)) in RANKS.into_iter().flat_map(each) {
        if honours_external_ips || reach != Reach::ExternalIp {
            for frontend in frontends(port, reach, nodes) {
                let claim = Claim { port: index, reach };
                let winner = *claimed.entry(frontend).or_insert(claim);
                if let Some(winner) = ports.get(winner.port).filter(|_| winner.port != index) {
                    warnings.push(taken(port, &frontend, winner));
                }
            }
        }
    }
    claimed
}

/// Leaves out of `claimed` what a map of `capacity` entries that holds `before` has no room for;
/// returns whether that is anything. What is there already stays, then the first Services count.
pub(super) fn fit<A: Address>(
    claimed: &mut Claims<A>,
    before: &BTreeMap<Frontend<A>, FrontendRow>,
    capacity: u32,
) -> bool {
    // What goes is still there while what comes is written.
    let room = (capacity as usize).saturating_sub(before.len());
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

fn taken<A: Address>(
    port: &ports::Port<'_>,
    frontend: &Frontend<A>,
    winner: &ports::Port<'_>,
) -> Warning {
    Warning {
        about: format!("Service {}", port.service.name),
        text: format!("does not answer at {frontend}, which is {winner}'s: change one of the two"),
    }
}

fn frontends<A: Address>(port: &ports::Port<'_>, reach: Reach, nodes: &[A]) -> Vec<Frontend<A>> {
    let Some(cluster_ip) = port.cluster_ip() else {
        return Vec::new();
    };
    let number = port.port.port;
    let of = |ips: &[IpAddr]| ips.iter().filter_map(|ip| A::from_ip(*ip)).collect();
    let (addresses, number): (Vec<A>, u16) = match (reach, port.port.node_port) {
        (Reach::ClusterIp, _) => (vec![cluster_ip], number),
        (Reach::LoadBalancer, _) => (of(&port.service.load_balancer_ips), number),
        (Reach::ExternalIp, _) => (of(&port.service.external_ips), number),
        (Reach::NodePort, Some(number)) => (nodes.to_vec(), number),
        (Reach::NodePort, None) => return Vec::new(),
    };
    let at = |address| Frontend::new(address, Port::new(number), port.port.protocol);
    addresses.into_iter().map(at).collect()
}
