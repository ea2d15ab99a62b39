//! Packets to Services and their replies: to a local backend, to a remote one, and to the client
//! itself.

use std::net::SocketAddr;

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use super::builder::{
    Addresses, Arrival, CLIENT_PORT, CaseBuilder, PAYLOAD, Packet, Steps, limit_is,
};
use super::case::{Case, Program};
use super::topology::{MTU, Target, UNLUCKY_PORT};
use crate::hook::Verdict;
use crate::world::RateLimit;

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn translated(self) -> Vec<Case> {
        let mut cases = self.local();
        cases.extend(self.two_services());
        cases.extend(self.remote());
        cases.extend(self.remote_limits());
        cases.extend(self.path_mtu());
        cases.push(self.snat_port_of_a_socket());
        cases.push(self.hairpin());
        cases.push(self.hairpin_through_the_node());
        cases
    }

    /// To a local backend, and from a pod to any backend: the client keeps its address.
    fn local(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, remote_frontend, remote_backend, .. } =
            self.addresses();
        let no_service = self.topology.frontend(Target::NotAService);
        let to_no_service =
            |program| self.at(program, pod).sends_to(no_service).passes(Outcome::PassedNotAService);
        vec![
            self.case("a pod reaches a local backend and sees the Service's replies").steps([
                self.from_pod(pod).establishes(frontend, backend),
                self.to_device(backend).sends_to(pod).is_replied_as(frontend),
            ]),
            self.case("a reply passes the backend's device unchanged").steps([
                self.from_pod(pod).establishes(frontend, backend),
                self.from_pod(backend).sends_to(pod).passes(Outcome::PassedOtherHook),
            ]),
            self.case("an external client keeps its address towards a local backend").steps([
                self.from_network(client).establishes(frontend, backend),
                self.to_device(backend).sends_to(client).is_replied_as(frontend),
            ]),
            self.case("a pod keeps its address towards a remote backend").step(
                self.from_pod(pod).connects_to(remote_frontend).is_forwarded_to(remote_backend),
            ),
            self.case("XDP leaves packets to a local backend to TC").steps([
                self.network_xdp(client).connects_to(frontend).passes(Outcome::PassedLeftToTc),
                self.from_network(client).establishes(frontend, backend),
                self.network_xdp(client).sends_to(frontend).passes(Outcome::PassedLeftToTc),
            ]),
            self.case("a packet to no Service passes unchanged")
                .steps(Program::ALL.map(to_no_service)),
            self.case("a packet between pods passes unchanged").steps([
                self.from_pod(pod).connects_to(remote_backend).passes(Outcome::PassedDirect),
                self.to_device(pod).connects_to(remote_backend).passes(Outcome::PassedNotAService),
            ]),
        ]
    }

    /// From one client port to two Services of one backend.
    fn two_services(self) -> Vec<Case> {
        let Addresses { pod, client, frontend, backend, remote_backend: remote, .. } =
            self.addresses();
        let other = self.topology.frontend(Target::LocalToo);
        let moved = SocketAddr::new(pod.ip(), self.snat_port(pod, Target::LocalToo, 0));
        let remote_other = self.topology.frontend(Target::RemoteToo);
        let source = self.snat_source(client, Target::RemoteToo);
        vec![
            self.case("two Services of one backend: replies come from the right one").steps([
                self.from_pod(pod).establishes(frontend, backend),
                self.from_pod(pod).connects_to(other).is_forwarded_from(moved, backend),
                self.to_device(backend).accepts(moved).is_replied_to(other, pod),
                self.to_device(backend).sends_to(pod).is_replied_as(frontend),
            ]),
            self.case("a second Service of a remote backend gets its own SNAT port").steps([
                self.established_remote(),
                self.from_network(client).connects_to(remote_other).is_snat_to(source, remote),
                self.from_network(remote).accepts(source).is_un_nat_to(remote_other, client),
            ]),
        ]
    }

    /// From an external client to a remote backend, at TC and at XDP.
    fn remote(self) -> Vec<Case> {
        let Addresses { client, remote_frontend, remote_backend, snat_source, .. } =
            self.addresses();
        let (frontend, backend, source) = (remote_frontend, remote_backend, snat_source);
        let other = self.topology.client(CLIENT_PORT + 1);
        let other_source = self.snat_source(other, Target::Remote);
        let lost = self.topology.unroutable_client(CLIENT_PORT);
        let lost_source = self.snat_source(lost, Target::Remote);
        vec![
            self.case("an external client reaches a remote backend")
                .step(self.established_remote()),
            self.case("XDP forwards the packets of a flow that TC began").steps([
                self.established_remote(),
                self.network_xdp(client).sends_to(frontend).is_snat_to(source, backend),
                self.network_xdp(backend).sends_to(source).is_un_nat_to(frontend, client),
            ]),
            self.case("XDP begins a flow, and forwards its first packet").steps([
                self.network_xdp(other).connects_to(frontend).is_snat_to(other_source, backend),
                self.network_xdp(backend).accepts(other_source).is_un_nat_to(frontend, other),
            ]),
            self.case("XDP leaves one packet to TC to have the neighbour confirmed")
                .with_stale_neighbours()
                .steps([
                    self.network_xdp(other).connects_to(frontend).passes(Outcome::PassedLeftToTc),
                    self.network_xdp(client).connects_to(frontend).is_snat_to(source, backend),
                    self.from_network(other).connects_to(frontend).leaves_as(
                        Outcome::ForwardedSnat,
                        self.redirect_neigh(),
                        other_source,
                        backend,
                    ),
                    self.from_network(other).sends_to(frontend).is_snat_to(other_source, backend),
                ]),
            self.case("a reply to a client without a route is dropped").steps([
                self.from_network(lost).connects_to(frontend).is_snat_to(lost_source, backend),
                self.from_network(backend).accepts(lost_source).is_dropped(Outcome::DroppedNoRoute),
            ]),
        ]
    }

    /// A flow to a remote backend that cannot begin, and packets that cannot go on to it.
    fn remote_limits(self) -> Vec<Case> {
        let Addresses { client, remote_frontend: frontend, node, .. } = self.addresses();
        let sender = self.from_network(client);
        let expiring = sender.connects_to(frontend).with_hop_limit(1);
        let time_exceeded = self.time_exceeded();
        vec![
            self.case("no flow to a remote backend begins without a source port for SNAT")
                .without_snat_ports()
                .step(sender.connects_to(frontend).is_dropped(Outcome::DroppedNoSnatPort)),
            self.case("a packet at its hop limit is rejected with time exceeded")
                .step(expiring.is_rejected(Outcome::RejectedTtlExpired, time_exceeded, node)),
        ]
    }

    /// Packets larger than the next link's MTU, and those that will be cut into smaller ones.
    fn path_mtu(self) -> Vec<Case> {
        let Addresses { client, remote_frontend: frontend, remote_backend, .. } = self.addresses();
        let Addresses { node, snat_source: source, .. } = self.addresses();
        let large = || {
            let payload = [&[7; MTU as usize], PAYLOAD].concat();
            self.from_network(client).sends_to(frontend).with_payload(&payload)
        };
        let forwards = |packet: Arrival<Packet>| packet.is_snat_to(source, remote_backend);
        let too_big = self.packet_too_big(MTU);
        let rejects = |packet: Arrival<Packet>| {
            packet.is_rejected(Outcome::RejectedFragNeeded, too_big, node)
        };
        let headers = self.by_family(20, 40) + if self.protocol == Protocol::UDP { 8 } else { 20 };
        let most = MTU - headers;
        let ping = || self.from_network(client).pings(frontend);
        let suppressed = Outcome::DroppedIcmpSuppressed;
        let of_others = [RateLimit::EchoReply, RateLimit::Rejection, RateLimit::TimeExceeded];
        let begins = self.established_remote();
        let mut steps = vec![begins.clone(), rejects(large())];
        match self.protocol {
            // The kernel cuts what its sender has put together, each of a length of its own.
            Protocol::SCTP => steps.push(forwards(large().in_segments(0xffff))),
            protocol => {
                steps.extend([
                    forwards(large().in_segments(most)),
                    rejects(large().in_segments(most + 1)),
                ]);
                if protocol == Protocol::TCP {
                    steps.extend([
                        forwards(large().with_tcp_options().in_segments(most - 12)),
                        rejects(large().with_tcp_options().in_segments(most - 11)),
                    ]);
                }
            }
        }
        vec![
            self.case("packets above the next link's MTU are rejected with that MTU").steps(steps),
            self.case("no flood of another kind keeps path MTU discovery from working").steps([
                begins.clone(),
                of_others.into_iter().flat_map(|limit| limit_is(limit, 0)).collect(),
                ping().is_dropped(suppressed),
                rejects(large()),
            ]),
            self.case("too large packets do not use up the limit of pings").steps([
                begins,
                limit_is(RateLimit::PathMtu, 0),
                large().is_dropped(suppressed),
                ping().is_echo_replied(),
            ]),
        ]
    }

    /// The first source port for SNAT is that of a TCP and of a UDP socket.
    fn snat_port_of_a_socket(self) -> Case {
        let Addresses { remote_frontend, remote_backend, .. } = self.addresses();
        let client = self.topology.client(UNLUCKY_PORT);
        let packet = self.from_network(client).connects_to(remote_frontend);
        let (sentence, number) = if self.protocol == Protocol::SCTP {
            ("SNAT takes the port of a local socket of another protocol", 0)
        } else {
            ("SNAT does not take the port of a local socket", 1)
        };
        let source = self.topology.node(self.snat_port(client, Target::Remote, number));
        self.case(sentence).step(packet.is_snat_to(source, remote_backend))
    }

    /// From the backend itself: it sees the frontend as the client.
    fn hairpin(self) -> Case {
        let Addresses { frontend, backend, .. } = self.addresses();
        let pod = SocketAddr::new(backend.ip(), CLIENT_PORT);
        let source = SocketAddr::new(frontend.ip(), CLIENT_PORT);
        let (forwarded, replied) = (Outcome::ForwardedHairpin, Outcome::RepliedHairpin);
        let (tx, sender) = (Verdict::Tx, self.from_pod(pod));
        self.case("a pod reaches itself through a Service").steps([
            sender.connects_to(frontend).leaves_as(forwarded, tx, source, backend),
            self.from_pod(backend).accepts(source).leaves_as(replied, tx, frontend, pod),
            sender.sends_to(frontend).leaves_as(forwarded, tx, source, backend),
        ])
    }

    /// The same through an address of the node: a probe of the node has its tuple from there, too.
    fn hairpin_through_the_node(self) -> Case {
        let Addresses { backend, .. } = self.addresses();
        let frontend = self.topology.frontend(Target::NodePort);
        let pod = SocketAddr::new(backend.ip(), CLIENT_PORT);
        let source = self.snat_source(pod, Target::NodePort);
        let (forwarded, replied) = (Outcome::ForwardedHairpin, Outcome::RepliedHairpin);
        let (tx, sender) = (Verdict::Tx, self.from_pod(pod));
        self.case("a pod that reaches itself through the node has a port that no probe has").steps(
            [
                sender.connects_to(frontend).leaves_as(forwarded, tx, source, backend),
                self.from_pod(backend).accepts(source).leaves_as(replied, tx, frontend, pod),
                sender.sends_to(frontend).leaves_as(forwarded, tx, source, backend),
            ],
        )
    }

    /// An external client's connection to the remote backend, until both ends have sent.
    fn established_remote(self) -> Steps {
        let Addresses { client, remote_frontend, remote_backend, snat_source, .. } =
            self.addresses();
        let (frontend, backend, source) = (remote_frontend, remote_backend, snat_source);
        [
            self.from_network(client).connects_to(frontend).is_snat_to(source, backend),
            self.from_network(backend).accepts(source).is_un_nat_to(frontend, client),
            self.from_network(client).sends_to(frontend).is_snat_to(source, backend),
            self.from_network(backend).sends_to(source).is_un_nat_to(frontend, client),
        ]
        .concat()
    }
}
