//! The life of flows: how they begin, go on, end, and begin again.

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::builder::{
    Addresses, CLIENT_PORT, CaseBuilder, half_open_entry_is_evicted, pod_is_retired,
};
use super::case::Case;
use super::topology::{Pod, Target};
use crate::hook::Verdict;

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn flows(self) -> Vec<Case> {
        let mut cases = self.conntrack_entries();
        match self.protocol {
            Protocol::TCP => {
                cases.extend(self.tcp_begins());
                cases.extend(self.tcp_ends());
            }
            Protocol::UDP => {
                cases.extend(self.udp());
                cases.extend(self.udp_of_the_node());
            }
            _ => {}
        }
        if self.protocol != Protocol::UDP {
            cases.extend(self.answers_of_no_flow());
        }
        cases
    }

    /// Entries that the kernel evicts, and those that do not fit.
    fn conntrack_entries(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        let full = Outcome::ForwardedConntrackFull;
        let mut cases = vec![
            self.case("the client's next packet writes an evicted reply entry again").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                half_open_entry_is_evicted(backend, pod),
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
            ]),
            self.case("a flow whose original entry is evicted keeps its reply entry").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                half_open_entry_is_evicted(pod, frontend),
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
            ]),
        ];
        // A UDP flow is not established by packets alone, but by time.
        if self.protocol != Protocol::UDP {
            let case = self.case("a flow stays half-open while the conntrack table is full, with a retired backend too");
            cases.push(case.with_conntrack_capacity(1).steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
                client.sends_to(frontend).leaves_as(full, Verdict::Pass, pod, backend),
                server.sends_to(pod).is_replied_as(frontend),
                client.sends_to(frontend).leaves_as(full, Verdict::Pass, pod, backend),
                pod_is_retired(Pod::Local),
                client.sends_to(frontend).leaves_as(full, Verdict::Pass, pod, backend),
                server.sends_to(pod).is_replied_as(frontend),
            ]));
        }
        cases
    }

    fn tcp_begins(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        let other = self.from_pod(self.topology.client_pod(CLIENT_PORT + 1));
        vec![
            self.case("a packet of an unknown connection is forwarded to a backend").steps([
                client.sends_to(frontend).is_forwarded_to(backend),
                server.sends_to(pod).is_replied_as(frontend),
                client.sends_to(frontend).is_forwarded_to(backend),
            ]),
            self.case("a retransmitted SYN follows the first").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
                client.sends_to(frontend).is_forwarded_to(backend),
                other.connects_to(frontend).is_forwarded_to(backend),
            ]),
            self.case("a connection that the backend reset can be tried again").steps([
                client.connects_to(frontend).is_forwarded_to(backend),
                server.resets(pod).is_replied_as(frontend),
                client.connects_to(frontend).is_forwarded_to(backend),
            ]),
            self.case("a closed connection can be opened again").steps([
                client.establishes(frontend, backend),
                client.closes(frontend).is_forwarded_to(backend),
                server.closes(pod).is_replied_as(frontend),
                client.sends_to(frontend).is_forwarded_to(backend),
                client.connects_to(frontend).is_forwarded_to(backend),
                server.accepts(pod).is_replied_as(frontend),
                client.sends_to(frontend).is_forwarded_to(backend),
            ]),
            // The slot still names the backend, so the new flow gets the same one: the old entry is not
            // followed, but only the state of the new one would show it.
            self.case("a reopened connection does not follow the entry of the old one").steps([
                client.establishes(frontend, backend),
                client.closes(frontend).is_forwarded_to(backend),
                server.closes(pod).is_replied_as(frontend),
                pod_is_retired(Pod::Local),
                client.connects_to(frontend).is_forwarded_to(backend),
            ]),
        ]
    }

    /// From a port of the node that is a node port, too.
    fn udp_of_the_node(self) -> Vec<Case> {
        let Addresses { client, backend, .. } = self.addresses();
        let node_port = self.topology.frontend(Target::NodePort);
        let (outside, passed) = (self.from_network(client), Outcome::PassedOwnFlow);
        let own = self.to_device(node_port);
        let left = Outcome::PassedNotAService;
        let other = self.topology.client(CLIENT_PORT + 1);
        vec![
            self.case("replies to the node's own port pass, though it is a node port").steps([
                own.sends_to(client).passes(left),
                outside.sends_to(node_port).passes(passed),
                self.network_xdp(client).sends_to(node_port).passes(passed),
                own.sends_to(client).passes(left),
                self.from_network(other).sends_to(node_port).is_forwarded_to(backend),
            ]),
            self.case("a reply of a Service that passes two devices is not the node's own").steps(
                [
                    outside.sends_to(node_port).is_forwarded_to(backend),
                    self.to_device(backend).sends_to(client).is_replied_as(node_port),
                    own.sends_to(client).passes(left),
                    outside.sends_to(node_port).is_forwarded_to(backend),
                    own.sends_to(client).passes(left),
                    outside.sends_to(node_port).is_forwarded_to(backend),
                ],
            ),
        ]
    }

    /// Packets that cannot be the first of a connection.
    fn answers_of_no_flow(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, .. } = self.addresses();
        let node_port = self.topology.frontend(Target::NodePort);
        let (outside, xdp) = (self.from_network(client), self.network_xdp(client));
        let (passed, dropped) = (Outcome::PassedNoFlow, Outcome::DroppedNoFlow);
        vec![
            self.case("what continues no flow to the node's own address is the node's own").steps(
                [
                    outside.sends_to(node_port).passes(passed),
                    xdp.sends_to(node_port).passes(passed),
                    outside.resets(node_port).passes(passed),
                    self.from_pod(pod).sends_to(node_port).passes(passed),
                    outside.connects_to(node_port).is_forwarded_to(backend),
                    self.to_device(backend).accepts(client).is_replied_as(node_port),
                    outside.sends_to(node_port).is_forwarded_to(backend),
                ],
            ),
            self.case("a reset of no flow to a Service begins none").steps([
                outside.resets(frontend).is_dropped(dropped),
                self.from_pod(pod).resets(frontend).is_dropped(dropped),
            ]),
        ]
    }

    fn tcp_ends(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        vec![
            self.case("an established connection stays with a retired backend").steps([
                client.establishes(frontend, backend),
                pod_is_retired(Pod::Local),
                client.sends_to(frontend).is_forwarded_to(backend),
                server.sends_to(pod).is_replied_as(frontend),
            ]),
            self.case("a reset that both ends ignore changes nothing").steps([
                client.establishes(frontend, backend),
                client.resets(frontend).is_forwarded_to(backend),
                server.sends_to(pod).is_replied_as(frontend),
                client.sends_to(frontend).is_forwarded_to(backend),
                server.sends_to(pod).is_replied_as(frontend),
            ]),
        ]
    }

    fn udp(self) -> Vec<Case> {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let (client, server) = (self.from_pod(pod), self.to_device(backend));
        let mut cases = vec![
            // The slot still names the backend: the flow begins again with the same one, and its replies
            // are still translated.
            self.case("a flow leaves a retired backend with its next packet").steps([
                client.establishes(frontend, backend),
                pod_is_retired(Pod::Local),
                client.sends_to(frontend).is_forwarded_to(backend),
                server.sends_to(pod).is_replied_as(frontend),
            ]),
            self.case("a flow without replies stays with its backend").steps([
                client.sends_to(frontend).is_forwarded_to(backend),
                client.sends_to(frontend).is_forwarded_to(backend),
                client.sends_to(frontend).is_forwarded_to(backend),
            ]),
        ];
        if self.topology.family == Family::V4 {
            let datagram = client.sends_to(frontend).without_checksum();
            cases.push(
                self.case("a datagram without a checksum stays without one")
                    .step(datagram.is_forwarded_to(backend)),
            );
        }
        cases
    }
}
