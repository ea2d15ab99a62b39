//! Which frontends there are, and whose each is.

use std::collections::BTreeMap;

use lb_common::address::{Address, Port};
use lb_common::service::{Frontend, FrontendRow};

use super::eligible::Reach;
use super::ports;
use crate::model::Remark;

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

/// The frontends of family `A`, each with the one Service port that gets it. `nodes` are this
/// node's addresses that answer on node ports.
///
/// Where several claim one, a cluster IP wins over other addresses, then the first by Service name:
/// which came first is not known, and all nodes must agree.
pub(super) fn claimed<A: Address>(
    ports: &[ports::Port<'_>],
    nodes: &[A],
    remarks: &mut Vec<Remark>,
) -> Claims<A> {
    let mut claimed = BTreeMap::new();
    for reach in [Reach::Internal, Reach::External] {
        for (index, port) in ports.iter().enumerate() {
            for frontend in frontends(port, reach, nodes) {
                let claim = Claim { port: index, reach };
                let winner = *claimed.entry(frontend).or_insert(claim);
                if let Some(winner) = ports.get(winner.port).filter(|_| winner.port != index) {
                    remarks.push(taken(port, &frontend, winner));
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
) -> Remark {
    Remark {
        about: format!("Service {}", port.service.name),
        text: format!("does not answer at {frontend}, which is {winner}'s: change one of the two"),
    }
}

fn frontends<A: Address>(port: &ports::Port<'_>, reach: Reach, nodes: &[A]) -> Vec<Frontend<A>> {
    let Some(cluster_ip) = port.cluster_ip() else {
        return Vec::new();
    };
    let at =
        |address: A, number: u16| Frontend::new(address, Port::new(number), port.port.protocol);
    match reach {
        Reach::Internal => vec![at(cluster_ip, port.port.port)],
        Reach::External => {
            let node_port = port.port.node_port.into_iter();
            let by_node = node_port.flat_map(|number| nodes.iter().map(move |ip| at(*ip, number)));
            // Ranges that cannot be kept yet must not be ignored either: an address that asks for them
            // is not served.
            let is_open = port.service.source_ranges.is_empty();
            let load_balancer = port.service.load_balancer_ips.iter().filter(|_| is_open);
            let vips = load_balancer.chain(&port.service.external_ips);
            let by_vip = vips.filter_map(|ip| A::from_ip(*ip)).map(|ip| at(ip, port.port.port));
            by_node.chain(by_vip).collect()
        }
    }
}
