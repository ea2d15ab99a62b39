//! ICMP messages: errors about translated packets, and echo requests.

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder, limit_is};
use super::case::Case;
use crate::hook::Verdict;
use crate::world::RateLimit;

/// The MTU that packet too big reports, in bytes.
const MTU: u32 = 1280;

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn icmp(self) -> Vec<Case> {
        let mut cases = self.errors_about_local_flows();
        cases.push(self.errors_about_a_remote_flow());
        cases.extend(self.errors_that_pass());
        // Echo requests have no transport protocol: once in each family.
        if self.protocol == Protocol::TCP {
            cases.extend(self.echo_requests());
        }
        cases
    }

    /// About flows to a local backend: the stack routes them.
    fn errors_about_local_flows(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, router, .. } = self.addresses();
        let (too_big, expired) = (self.packet_too_big(MTU), self.time_exceeded());
        let refused = self.port_unreachable();
        let (request, reply) = ((pod, backend), (frontend, client));
        let (sender, server) = (self.from_pod(pod), self.to_device(backend));
        let router_out = self.to_device(router);
        let short = router_out.reports(expired, request).with_short_quote();
        vec![
            self.case("a router's error about a packet to a backend names the frontend").steps([
                sender.establishes(frontend, backend),
                router_out.reports(too_big, request).is_replied_about(pod, frontend),
                router_out.reports(expired, request).is_replied_about(pod, frontend),
            ]),
            self.case("a backend's port unreachable comes from the frontend").steps([
                sender.connects_to(frontend).is_forwarded_to(backend),
                server.reports(refused, request).is_replied_as(frontend, pod, Verdict::Pass),
            ]),
            self.case("the bytes behind an error's quote stay as they are").steps([
                sender.establishes(frontend, backend),
                short.is_replied_about(pod, frontend),
            ]),
            self.case("an error about a reply is forwarded to the backend").steps([
                self.from_network(client).establishes(frontend, backend),
                self.from_network(router)
                    .reports(too_big, reply)
                    .is_forwarded_about(backend, client),
            ]),
        ]
    }

    /// About a flow to a remote backend: the node routes them, so they come from the frontend or from
    /// the node, whoever sent them.
    fn errors_about_a_remote_flow(self) -> Case {
        let Addresses { client, remote_frontend, remote_backend, snat_source, router, .. } =
            self.addresses();
        let (frontend, backend, source) = (remote_frontend, remote_backend, snat_source);
        let (too_big, expired) = (self.packet_too_big(MTU), self.time_exceeded());
        let refused = self.port_unreachable();
        let (request, reply) = ((source, backend), (frontend, client));
        let redirect = self.redirect();
        let (router, server) = (self.from_network(router), self.from_network(backend));
        self.case("errors about a flow with SNAT reach the client and the backend").steps([
            self.from_network(client).connects_to(frontend).is_snat_to(source, backend),
            router.reports(too_big, request).is_replied_as(frontend, client, redirect),
            server.reports(refused, request).is_replied_as(frontend, client, redirect),
            router.reports(expired, request).is_replied_as(frontend, client, redirect),
            router.reports(too_big, reply).is_forwarded_as(source, backend, redirect),
        ])
    }

    fn errors_that_pass(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, router, .. } = self.addresses();
        let (too_big, request) = (self.packet_too_big(MTU), (pod, backend));
        let (ingress, egress) = (self.from_pod(router), self.to_device(router));
        let xdp = self.network_xdp(router);
        vec![
            self.case("an error passes unchanged where its packet's replies do").steps([
                self.from_pod(pod).establishes(frontend, backend),
                ingress.reports(too_big, request).passes(Outcome::PassedOtherHook),
            ]),
            self.case("an error about no flow passes unchanged").steps([
                egress.reports(too_big, request).passes(Outcome::PassedIcmpError),
                xdp.reports(too_big, request).passes(Outcome::PassedLeftToTc),
            ]),
        ]
    }

    fn echo_requests(self) -> Vec<Case> {
        let Addresses { client, remote_frontend: frontend, node, .. } = self.addresses();
        let client = self.from_network(client);
        let unallocated = client.pings(self.topology.unallocated(0));
        vec![
            self.case("an echo request to a Service gets a reply, up to the rate limit").steps([
                client.pings(frontend).is_echo_replied(),
                limit_is(RateLimit::EchoReply, 0),
                client.pings(frontend).is_dropped(Outcome::DroppedIcmpSuppressed),
            ]),
            self.case("an echo request to an unallocated ClusterIP is dropped")
                .step(unallocated.is_dropped(Outcome::DroppedUnallocatedAddress)),
            self.case("an echo request to the node passes unchanged")
                .step(client.pings(node).passes(Outcome::PassedEcho)),
        ]
    }
}
