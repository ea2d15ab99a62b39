//! Direct flows: to a backend itself, not through a Service, from a source port that may have a flow
//! through the Service as well.

use std::net::SocketAddr;

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder, pod_is_retired};
use super::case::{Case, Program};
use super::topology::{Pod, Target};

/// Nothing to change.
const DIRECT: Outcome = Outcome::PassedDirect;
/// Not of a flow that is known.
const UNKNOWN: Outcome = Outcome::PassedNotAService;

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn direct(self) -> Vec<Case> {
        let Addresses { pod, client, .. } = self.addresses();
        let mut cases = Vec::new();
        for (program, client) in [(Program::FromPod, pod), (Program::FromNetwork, client)] {
            cases.extend(self.one_port_for_two(program, client));
        }
        cases.extend(self.direct_flows());
        cases.extend(self.errors_about_a_direct_flow());
        if self.protocol != Protocol::UDP {
            cases.extend(self.direct_without_room());
            cases.extend(self.opened_by_the_backend());
            cases.extend(self.of_an_earlier_pod());
        }
        cases
    }

    /// The client with the source port that a direct flow gets if it cannot keep its own.
    fn moved(self, client: SocketAddr, backend: SocketAddr) -> SocketAddr {
        let port = self.topology.snat_port(client, backend, self.protocol, 0);
        SocketAddr::new(client.ip(), port)
    }

    /// One source port, to the backend itself and to its Service, in either order.
    fn one_port_for_two(self, program: Program, client: SocketAddr) -> Vec<Case> {
        let Addresses { frontend, backend, .. } = self.addresses();
        let (sender, server) = (self.at(program, client), self.to_device(backend));
        let through = SocketAddr::new(client.ip(), self.snat_port(client, Target::Local, 0));
        let moved = self.moved(client, backend);
        vec![
            self.case("a source port serves a direct flow, then one through the Service").steps([
                sender.connects_to(backend).passes(DIRECT),
                server.accepts(client).passes(DIRECT),
                sender.sends_to(backend).passes(DIRECT),
                sender.connects_to(frontend).is_forwarded_from(through, backend),
                server.accepts(through).is_replied_to(frontend, client),
                sender.sends_to(frontend).is_forwarded_from(through, backend),
                sender.sends_to(backend).passes(DIRECT),
                server.sends_to(client).passes(DIRECT),
                server.sends_to(through).is_replied_to(frontend, client),
            ]),
            self.case("a source port serves a flow through the Service, then a direct one").steps(
                [
                    sender.establishes(frontend, backend),
                    sender.connects_to(backend).is_moved_to(moved),
                    server.accepts(moved).is_replied_directly(client),
                    sender.sends_to(backend).is_moved_to(moved),
                    server.sends_to(client).is_replied_as(frontend),
                    sender.sends_to(frontend).is_forwarded_to(backend),
                    server.sends_to(moved).is_replied_directly(client),
                ],
            ),
            self.case(
                "a half-open flow through the Service does not translate a direct one's replies",
            )
            .steps([
                sender.connects_to(frontend).is_forwarded_to(backend),
                sender.connects_to(backend).is_moved_to(moved),
                server.accepts(moved).is_replied_directly(client),
            ]),
        ]
    }

    fn direct_flows(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, .. } = self.addresses();
        let (sender, server) = (self.from_pod(pod), self.to_device(backend));
        let (outside, xdp) = (self.from_network(client), self.network_xdp(client));
        let (bridge, moved) = (self.from_network(pod), self.moved(pod, backend));
        vec![
            self.case("a direct flow passes other hooks").steps([
                sender.connects_to(backend).passes(DIRECT),
                self.to_device(pod).connects_to(backend).passes(UNKNOWN),
                self.from_pod(backend).accepts(pod).passes(Outcome::PassedOtherHook),
                server.accepts(pod).passes(DIRECT),
            ]),
            self.case("a pod's translated packet that passes a second device stays as it is")
                .steps([
                    sender.connects_to(frontend).is_forwarded_to(backend),
                    bridge.connects_to(backend).passes(Outcome::PassedOtherHook),
                    server.accepts(pod).is_replied_as(frontend),
                    sender.sends_to(frontend).is_forwarded_to(backend),
                    bridge.connects_to(backend).passes(Outcome::PassedOtherHook),
                    sender.connects_to(backend).is_moved_to(moved),
                    self.from_network(moved).connects_to(backend).passes(Outcome::PassedOtherHook),
                    server.accepts(moved).is_replied_directly(pod),
                    server.sends_to(pod).is_replied_as(frontend),
                ]),
            self.case("XDP leaves direct flows to TC").steps([
                xdp.connects_to(backend).passes(Outcome::PassedLeftToTc),
                outside.connects_to(backend).passes(DIRECT),
                xdp.sends_to(backend).passes(Outcome::PassedLeftToTc),
            ]),
            self.case("a direct flow without a source port of its own passes untracked")
                .without_snat_ports()
                .steps([
                    sender.establishes(frontend, backend),
                    sender.connects_to(backend).passes(Outcome::PassedUntracked),
                    server.sends_to(pod).is_replied_as(frontend),
                ]),
        ]
    }

    fn errors_about_a_direct_flow(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, router, .. } = self.addresses();
        let (sender, moved) = (self.from_pod(pod), self.moved(pod, backend));
        let (router, too_big) = (self.to_device(router), self.packet_too_big(1280));
        vec![
            self.case("an error about a direct flow passes unchanged").steps([
                sender.connects_to(backend).passes(DIRECT),
                router.reports(too_big, (pod, backend)).passes(Outcome::PassedIcmpError),
            ]),
            self.case("an error about a direct flow with another port reaches the client").steps([
                sender.connects_to(frontend).is_forwarded_to(backend),
                sender.connects_to(backend).is_moved_to(moved),
                router.reports(too_big, (moved, backend)).is_replied_about(pod, backend),
            ]),
        ]
    }

    /// TCP and SCTP: what opens no connection, and what finds no room once it is open.
    fn direct_without_room(self) -> Vec<Case> {
        let Addresses { pod, backend, .. } = self.addresses();
        let (sender, server) = (self.from_pod(pod), self.to_device(backend));
        vec![
            self.case("what continues an unknown connection to a backend itself passes").steps([
                sender.sends_to(backend).passes(UNKNOWN),
                sender.resets(backend).passes(UNKNOWN),
            ]),
            self.case("direct flows pass while the conntrack table is full")
                .with_conntrack_capacity(1)
                .steps([
                    sender.connects_to(backend).passes(DIRECT),
                    server.accepts(pod).passes(DIRECT),
                    sender.sends_to(backend).passes(Outcome::PassedUntracked),
                    server.sends_to(pod).passes(DIRECT),
                ]),
        ]
    }

    /// The backend opens a connection to a client that has one to it, with the same ports.
    fn opened_by_the_backend(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        vec![
            self.case("both ends may open one connection at the same moment").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                server.connects_to(pod).is_replied_as(frontend),
            ]),
            self.case("a backend that opens a connection does not end the one that its client has")
                .steps([
                    client.establishes(frontend, backend),
                    server.connects_to(pod).passes(UNKNOWN),
                    client.sends_to(frontend).is_forwarded_to(backend),
                    server.sends_to(pod).is_replied_as(frontend),
                ]),
            self.case("a backend may open a connection once the client's is over").steps([
                client.establishes(frontend, backend),
                server.resets(pod).is_replied_as(frontend),
                server.connects_to(pod).passes(UNKNOWN),
                server.sends_to(pod).passes(UNKNOWN),
            ]),
            self.case("the backend of a direct flow may open a connection as well").steps([
                client.connects_to(backend).passes(DIRECT),
                server.accepts(pod).passes(DIRECT),
                server.resets(pod).passes(DIRECT),
                server.connects_to(pod).passes(UNKNOWN),
                client.accepts(backend).passes(UNKNOWN),
            ]),
        ]
    }

    /// Another pod has the address of a backend whose flows are still in the table.
    fn of_an_earlier_pod(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        let moved = self.moved(pod, backend);
        vec![
            self.case("a direct flow to a pod that has an earlier backend's address is its own")
                .steps([
                    client.establishes(frontend, backend),
                    pod_is_retired(Pod::Local),
                    client.connects_to(backend).is_moved_to(moved),
                    server.accepts(moved).is_replied_directly(pod),
                    client.sends_to(backend).is_moved_to(moved),
                ]),
            self.case("the same while the earlier flow was half-open").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                pod_is_retired(Pod::Local),
                client.connects_to(backend).is_moved_to(moved),
                server.accepts(moved).is_replied_directly(pod),
            ]),
            self.case("a pod that has an earlier backend's address ends that one's flow").steps([
                client.establishes(frontend, backend),
                pod_is_retired(Pod::Local),
                server.connects_to(pod).passes(UNKNOWN),
                client.accepts(backend).passes(UNKNOWN),
                server.sends_to(pod).passes(UNKNOWN),
            ]),
            self.case("after a reset a direct connection keeps its port").steps([
                client.establishes(frontend, backend),
                client.resets(frontend).is_forwarded_to(backend),
                client.connects_to(backend).passes(DIRECT),
                server.accepts(pod).passes(DIRECT),
            ]),
        ]
    }
}
