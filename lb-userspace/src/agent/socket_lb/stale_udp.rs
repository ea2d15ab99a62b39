//! Which connected UDP sockets are stale: a decision over values. `datapath::sock_destroy` lists the
//! sockets and destroys them.

use std::net::SocketAddr;

use lb_common::address::{Port, Protocol};
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, SourceClass};
use lb_common::socket::UdpConnected;
use lb_common::source_range::SourceRange;
use lb_ebpf::world::Tables;

use crate::maps::contents::InContents;
use crate::maps::{Contents, FamilyContents};

/// Why a socket is stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Staleness {
    /// The backend that it was given at connect(2) does not serve any more.
    BackendGone,
    /// It is connected to a frontend, which was none at connect(2); or no program saw that call.
    AtFrontend,
}

/// Why a socket that is connected to `peer`, and was given the backend in `entry`, is stale; `None` if it
/// is not.
pub fn staleness(
    peer: SocketAddr,
    entry: Option<&UdpConnected>,
    contents: &Contents,
) -> Option<Staleness> {
    in_family(peer, entry, contents, &contents.v4)
        .or_else(|| in_family(peer, entry, contents, &contents.v6))
}

fn in_family<A: InContents>(
    peer: SocketAddr,
    entry: Option<&UdpConnected>,
    contents: &Contents,
    rows: &FamilyContents<A>,
) -> Option<Staleness> {
    let address = A::from_ip(peer.ip())?;
    // It may have been connected to another address since.
    let is_peer = |entry: &&UdpConnected| {
        entry.address == UdpConnected::address(&address) && entry.port == u32::from(peer.port())
    };
    // A backend may be a frontend, too, such as a pod of the node's own network at an external IP: the
    // backend comes first.
    if let Some(entry) = entry.filter(is_peer) {
        let row = rows.backends.get(&entry.id);
        let serves = row.is_some_and(|row| row.generation == entry.generation && row.is_serving());
        return (!serves).then_some(Staleness::BackendGone);
    }
    let frontend = Frontend::new(address, Port::new(peer.port()), Protocol::UDP);
    // Its packets follow the Service where they leave the node.
    let is_own = rows.ip_policies.get(&address).is_some_and(|policy| policy.flags == 0);
    let leaves = !is_own
        && A::has_default_route(&contents.settings)
        && A::of_services(&contents.settings).holds(&address);
    let row = rows.frontends.get(&frontend)?;
    let is_left = leaves || !is_own && is_dropped::<A>(contents, row);
    (!is_left).then_some(Staleness::AtFrontend)
}

/// Whether what processes of this node send to a frontend is dropped: where they connect to it, connect(2) leaves them
/// alone, so that they see no error.
fn is_dropped<A: InContents>(contents: &Contents, row: &FrontendRow) -> bool {
    let own = SourceRange::of(row.service, A::own(&contents.settings));
    row.pool(SourceClass::Host).empty_reason() == Some(EmptyPoolReason::NoLocalEndpoint)
        || row.is_restricted() && !contents.source_allowed(&own)
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;
    use lb_common::backend::{Backend, BackendId};
    use lb_common::service::{IpPolicy, Pool, ServiceId};
    use lb_common::socket::SocketRevNat;

    use super::*;

    const POD: ([u8; 4], u16) = ([10, 244, 0, 5], 53);
    const DNS: ([u8; 4], u16) = ([10, 96, 0, 10], 53);

    fn frontend((address, port): ([u8; 4], u16)) -> Frontend<V4> {
        Frontend::new(V4(address), Port::new(port), Protocol::UDP)
    }

    /// A backend of generation 3 at [`POD`].
    fn contents(flags: u8) -> Contents {
        let Frontend { address, port, protocol, .. } = frontend(POD);
        let service = ServiceId(1);
        let row = Backend { address, port, protocol, flags, generation: 3, service };
        let mut contents = Contents::default();
        contents.v4.backends.insert(BackendId(7), row);
        contents
    }

    fn entry(contents: &Contents) -> UdpConnected {
        let row = contents.v4.backends[&BackendId(7)];
        UdpConnected::of(SocketRevNat::new().remember(&frontend(DNS), BackendId(7), &row))
    }

    #[test]
    fn a_socket_is_stale_once_its_backend_serves_no_more() {
        let serving = contents(Backend::<V4>::SERVING);
        let entry = entry(&serving);
        let is_stale = |entry: Option<&UdpConnected>, contents: &Contents| {
            staleness(POD.into(), entry, contents) == Some(Staleness::BackendGone)
        };
        assert!(!is_stale(Some(&entry), &serving));
        assert!(is_stale(Some(&entry), &contents(0)));
        assert!(is_stale(Some(&entry), &Contents::default()));
        let mut anew = serving.clone();
        anew.v4.backends.get_mut(&BackendId(7)).unwrap().generation = 4;
        assert!(is_stale(Some(&entry), &anew));
        // A process that connected to the pod itself, or to another address since, is left alone.
        assert!(!is_stale(None, &contents(0)));
        let other_port = UdpConnected { port: 54, ..entry };
        assert!(!is_stale(Some(&other_port), &contents(0)));
    }

    #[test]
    fn a_socket_is_stale_where_a_service_has_come_to_be_since() {
        let mut contents = Contents::default();
        assert_eq!(staleness(DNS.into(), None, &contents), None);
        let row = FrontendRow {
            service: ServiceId(1),
            pools: [Pool::empty(EmptyPoolReason::NoEndpoint); 3],
            affinity: 0,
            flags: 0,
        };
        contents.v4.frontends.insert(frontend(DNS), row);
        assert_eq!(staleness(DNS.into(), None, &contents), Some(Staleness::AtFrontend));
    }

    #[test]
    fn a_socket_at_a_frontend_where_it_is_dropped_sees_no_error() {
        let row = |pool, flags| FrontendRow {
            service: ServiceId(1),
            pools: [pool; 3],
            affinity: 0,
            flags,
        };
        let serving = Pool { base: 0, length: 1 };
        let not_here = Pool::empty(EmptyPoolReason::NoLocalEndpoint);
        for (row, expected) in [
            (row(not_here, 0), None),
            (row(serving, FrontendRow::RESTRICTED), None),
            (row(serving, 0), Some(Staleness::AtFrontend)),
        ] {
            let mut contents = Contents::default();
            contents.v4.frontends.insert(frontend(DNS), row);
            assert_eq!(staleness(DNS.into(), None, &contents), expected, "{row:?}");
            // At an address of the node itself its packets pass no program.
            contents.v4.ip_policies.insert(V4(DNS.0), IpPolicy { flags: 0 });
            assert_eq!(staleness(DNS.into(), None, &contents), Some(Staleness::AtFrontend));
        }
    }

    #[test]
    fn a_backend_that_is_a_frontend_too_is_no_reason_while_it_serves() {
        let mut serving = contents(Backend::<V4>::SERVING);
        let entry = entry(&serving);
        let row = FrontendRow {
            service: ServiceId(2),
            pools: [Pool::empty(EmptyPoolReason::NoEndpoint); 3],
            affinity: 0,
            flags: 0,
        };
        serving.v4.frontends.insert(frontend(POD), row);
        assert_eq!(staleness(POD.into(), Some(&entry), &serving), None);
        assert_eq!(staleness(POD.into(), None, &serving), Some(Staleness::AtFrontend));
    }
}
