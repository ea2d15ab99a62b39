//! UDP sockets that are connected where nobody serves any more. No program sees the datagrams of a
//! connected socket, so it would go on sending to a pod that is gone; it is ended, and its process dials
//! again.

use std::net::IpAddr;

use lb_common::address::{Address, Port, Protocol};
use lb_common::service::Frontend;
use lb_common::socket::Dialled;

use crate::maps::{Contents, FamilyContents};

/// Whether a socket that sends to `peer`, and was connected to `dialled` in the place of a frontend, is
/// to be ended: its backend does not serve any more; or it has dialled a frontend before that was one.
pub fn is_stranded(peer: (IpAddr, u16), dialled: Option<&Dialled>, contents: &Contents) -> bool {
    in_family(peer, dialled, &contents.v4) || in_family(peer, dialled, &contents.v6)
}

fn in_family<A: Address>(
    (ip, port): (IpAddr, u16),
    dialled: Option<&Dialled>,
    rows: &FamilyContents<A>,
) -> bool {
    let Some(address) = A::from_ip(ip) else { return false };
    if rows.frontends.contains_key(&Frontend::new(address, Port::new(port), Protocol::UDP)) {
        return true;
    }
    // It may have been connected elsewhere since.
    let stands = |dialled: &&Dialled| {
        dialled.address == Dialled::address(&address) && dialled.port == u32::from(port)
    };
    dialled.filter(stands).is_some_and(|dialled| {
        let row = rows.backends.get(&dialled.id);
        !row.is_some_and(|row| row.generation == dialled.generation && row.is_serving())
    })
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;
    use lb_common::backend::{Backend, BackendId};
    use lb_common::service::{FrontendRow, Pool, ServiceId, Verdict};
    use lb_common::socket::Socket;

    use super::*;

    const POD: V4 = V4([10, 244, 0, 5]);
    const CLUSTER_IP: V4 = V4([10, 96, 0, 10]);

    fn dns<A: Address>(address: A) -> Frontend<A> {
        Frontend::new(address, Port::new(53), Protocol::UDP)
    }

    /// A backend of generation 3 at [`POD`], port 53.
    fn contents(flags: u8) -> Contents {
        let row = Backend {
            address: POD,
            port: Port::new(53),
            protocol: Protocol::UDP,
            flags,
            generation: 3,
            service: ServiceId(1),
        };
        let mut contents = Contents::default();
        contents.v4.backends.insert(BackendId(7), row);
        contents
    }

    #[test]
    fn a_socket_is_stranded_once_its_backend_serves_no_more() {
        let serving = contents(Backend::<V4>::SERVING);
        let row = serving.v4.backends[&BackendId(7)];
        let dialled = Dialled::of(Socket::new().remember(&dns(CLUSTER_IP), BackendId(7), &row));
        let peer = (POD.to_ip(), 53);
        assert!(!is_stranded(peer, Some(&dialled), &serving));
        assert!(is_stranded(peer, Some(&dialled), &contents(0)));
        assert!(is_stranded(peer, Some(&dialled), &Contents::default()));
        let mut anew = serving;
        anew.v4.backends.get_mut(&BackendId(7)).unwrap().generation = 4;
        assert!(is_stranded(peer, Some(&dialled), &anew));
        // Who has dialled the pod by itself, or another end since, is left alone.
        assert!(!is_stranded(peer, None, &contents(0)));
        assert!(!is_stranded((POD.to_ip(), 54), Some(&dialled), &contents(0)));
    }

    #[test]
    fn a_socket_is_stranded_where_a_service_has_come_to_be_since() {
        let peer = (CLUSTER_IP.to_ip(), 53);
        let mut contents = Contents::default();
        assert!(!is_stranded(peer, None, &contents));
        let row = FrontendRow {
            service: ServiceId(1),
            pools: [Pool::empty(Verdict::NoEndpoint); 3],
            affinity: 0,
            flags: 0,
        };
        contents.v4.frontends.insert(dns(CLUSTER_IP), row);
        assert!(is_stranded(peer, None, &contents));
    }
}
