//! Packets that a Service rejects or drops by its rules.

use std::net::SocketAddr;

use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder, limit_is};
use super::case::Case;
use super::topology::Target;
use crate::world::RateLimit;

/// A payload of which an ICMP error quotes a part, 1300 bytes.
const LONG: [u8; 1300] = [7; 1300];

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn rejected(self) -> Vec<Case> {
        let mut cases = self.rejected_with_port_unreachable();
        cases.extend(self.dropped());
        cases
    }

    fn rejected_with_port_unreachable(self) -> Vec<Case> {
        let Addresses { pod, frontend, .. } = self.addresses();
        let empty = self.topology.frontend(Target::NoEndpoints);
        let no_port = SocketAddr::new(frontend.ip(), 81);
        let (client, icmp) = (self.from_pod(pod), self.port_unreachable());
        let (no_endpoint, no_such_port) =
            (Outcome::RejectedNoEndpoint, Outcome::RejectedNoSuchPort);
        let suppressed = Outcome::DroppedIcmpSuppressed;
        vec![
            self.case("a packet to a Service without endpoints is rejected").steps([
                client.connects_to(empty).is_rejected(no_endpoint, icmp, empty),
                client.connects_to(empty).with_payload(&LONG).is_rejected(no_endpoint, icmp, empty),
                self.network_xdp(pod).connects_to(empty).passes(Outcome::PassedLeftToTc),
            ]),
            self.case("a packet to a port that the Service does not have is rejected")
                .step(client.connects_to(no_port).is_rejected(no_such_port, icmp, no_port)),
            self.case("above the ICMP rate limit packets are dropped without an error").steps([
                limit_is(RateLimit::Rejection, 1),
                client.connects_to(empty).is_rejected(no_endpoint, icmp, empty),
                client.connects_to(empty).is_dropped(suppressed),
                client.connects_to(no_port).is_dropped(suppressed),
            ]),
        ]
    }

    fn dropped(self) -> Vec<Case> {
        let Addresses { pod, client, backend, .. } = self.addresses();
        let (pod, client) = (self.from_pod(pod), self.from_network(client));
        let restricted = self.topology.frontend(Target::Restricted);
        let not_local = self.topology.frontend(Target::NoLocalEndpoints);
        let broken = self.topology.frontend(Target::Broken);
        let unallocated = pod.connects_to(self.topology.unallocated(80));
        vec![
            self.case("a packet to an unallocated ClusterIP is dropped")
                .step(unallocated.is_dropped(Outcome::DroppedUnallocatedAddress)),
            self.case("a packet from outside the source ranges is dropped").steps([
                pod.connects_to(restricted).is_dropped(Outcome::DroppedSourceRange),
                client.connects_to(restricted).is_forwarded_to(backend),
            ]),
            self.case("with policy Local and no local endpoint a packet is dropped")
                .step(client.connects_to(not_local).is_dropped(Outcome::DroppedNoLocalEndpoint)),
            self.case("a packet is dropped if its slot names no backend")
                .step(pod.connects_to(broken).is_dropped(Outcome::DroppedNoBackend)),
        ]
    }
}
