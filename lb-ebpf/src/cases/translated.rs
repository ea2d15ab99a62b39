//! Cases of packets to Services and their answers: to a backend here, to one elsewhere, to the client
//! itself.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::builder::{CLIENT, CaseBuilder, PAYLOAD, return_nothing};
use super::frame::{self, IcmpMessage, Kind};
use super::topology::{self, BACKEND_PORT, Pod, Target};
use super::{Case, Program, Setting, Step};
use crate::hook::Verdict;

impl CaseBuilder {
    pub(super) fn both(self) -> Vec<Case> {
        let pod = self.topology.client_pod(CLIENT);
        let client = self.topology.client(CLIENT);
        let backend = self.topology.pod(Pod::Local, BACKEND_PORT);
        let mut cases = vec![
            self.case("a pod reaches a backend here, and hears from the service", {
                let mut steps = self.established(Program::FromPod, pod, Target::Local);
                steps.push(self.replied(Kind::Data, pod, Target::Local));
                steps
            }),
            self.case("an answer is left alone where it enters the stack", {
                let mut steps = self.established(Program::FromPod, pod, Target::Local);
                let ends = (backend, pod);
                steps.push(self.passes(
                    Program::FromPod,
                    Kind::Data,
                    ends,
                    Outcome::PassedOtherHook,
                ));
                steps
            }),
            self.case("a client outside keeps its address towards a backend here", {
                let mut steps = self.established(Program::FromNetwork, client, Target::Local);
                steps.push(self.replied(Kind::Data, client, Target::Local));
                steps
            }),
            self.case("a pod keeps its address towards a backend elsewhere", {
                let there = self.topology.pod(Pod::Remote, BACKEND_PORT);
                let to = self.topology.frontend(Target::Remote);
                let leaves = Some((pod, there));
                let (outcome, on) = (Outcome::Forwarded, Verdict::Pass);
                let program = Program::FromPod;
                vec![self.packet(program, Kind::Open, (pod, to), outcome, on, leaves)]
            }),
            self.case("what XDP would have to pass up translated it leaves as it is", {
                let to = self.topology.frontend(Target::Local);
                let left = |kind| {
                    self.passes(Program::NetworkXdp, kind, (client, to), Outcome::PassedLeftToTc)
                };
                let mut steps = vec![left(Kind::Open)];
                steps.extend(self.established(Program::FromNetwork, client, Target::Local));
                steps.push(left(Kind::Data));
                steps
            }),
            self.case("a service with no endpoint on this node drops if its policy is Local", {
                let ends = (client, self.topology.frontend(Target::NoLocalEndpoints));
                vec![self.drops(
                    Program::FromNetwork,
                    Kind::Open,
                    ends,
                    Outcome::DroppedNoLocalEndpoint,
                )]
            }),
            self.case("a slot that names no backend drops", {
                let ends = (pod, self.topology.frontend(Target::Broken));
                vec![self.drops(Program::FromPod, Kind::Open, ends, Outcome::DroppedNoBackend)]
            }),
            self.case("two services, one client port, one backend: each hears from its own", {
                let second = self.translated(pod, Target::LocalToo, 1).port();
                let mut steps = self.established(Program::FromPod, pod, Target::Local);
                let too = self.topology.frontend(Target::LocalToo);
                let moved = SocketAddr::new(pod.ip(), second);
                for (program, kind, ends, outcome, leaves) in [
                    (
                        Program::FromPod,
                        Kind::Open,
                        (pod, too),
                        Outcome::Forwarded,
                        (moved, backend),
                    ),
                    (
                        Program::ToDevice,
                        Kind::Accept,
                        (backend, moved),
                        Outcome::Replied,
                        (too, pod),
                    ),
                ] {
                    let leaves = Some(leaves);
                    steps.push(self.packet(program, kind, ends, outcome, Verdict::Pass, leaves));
                }
                steps.push(self.replied(Kind::Data, pod, Target::Local));
                steps
            }),
            self.case("a flow whose answers' entry was evicted gets it back", {
                vec![
                    self.forwarded(Program::FromPod, Kind::Open, pod, Target::Local),
                    Step::Evict(backend, pod),
                    self.forwarded(Program::FromPod, Kind::Open, pod, Target::Local),
                    self.replied(Kind::Accept, pod, Target::Local),
                ]
            }),
            self.case("a flow whose own entry was evicted keeps its answers", {
                vec![
                    self.forwarded(Program::FromPod, Kind::Open, pod, Target::Local),
                    Step::Evict(pod, self.topology.frontend(Target::Local)),
                    self.forwarded(Program::FromPod, Kind::Open, pod, Target::Local),
                    self.replied(Kind::Accept, pod, Target::Local),
                ]
            }),
            Case {
                setting: Setting { capacity: Some(1), ..Setting::default() },
                ..self.case("a full table keeps the flow among the half-open", {
                    let to = self.topology.frontend(Target::Local);
                    let crowded = self.packet(
                        Program::FromPod,
                        Kind::Data,
                        (pod, to),
                        Outcome::ForwardedConntrackFull,
                        Verdict::Pass,
                        Some((pod, backend)),
                    );
                    vec![
                        self.forwarded(Program::FromPod, Kind::Open, pod, Target::Local),
                        self.replied(Kind::Accept, pod, Target::Local),
                        crowded.clone(),
                        self.replied(Kind::Data, pod, Target::Local),
                        crowded,
                    ]
                })
            },
            self.case("a packet to no service is left alone", {
                let ends = (pod, self.topology.frontend(Target::NotAService));
                [Program::FromPod, Program::FromNetwork, Program::ToDevice, Program::NetworkXdp]
                    .map(|program| {
                        self.passes(program, Kind::Data, ends, Outcome::PassedNotAService)
                    })
                    .to_vec()
            }),
            self.case("a packet between pods is left alone", {
                let ends = (pod, self.topology.pod(Pod::Remote, BACKEND_PORT));
                vec![
                    self.passes(Program::FromPod, Kind::Open, ends, Outcome::PassedNotAService),
                    self.passes(Program::ToDevice, Kind::Open, ends, Outcome::PassedNotAService),
                ]
            }),
        ];
        cases.extend(self.elsewhere(client));
        cases.extend(self.itself());
        cases.extend(self.odd(pod));
        cases
    }

    /// From outside to a backend elsewhere, at TC and at XDP.
    fn elsewhere(self, client: SocketAddr) -> Vec<Case> {
        let tc = Program::FromNetwork;
        let xdp = Program::NetworkXdp;
        let dial = Target::Remote;
        let first = (0, self.resolve());
        let then = (0, self.out());
        let established = vec![
            self.forwarded_out(tc, Kind::Open, client, dial, then),
            self.replied_out(tc, Kind::Accept, client, dial, first),
            self.forwarded_out(tc, Kind::Data, client, dial, then),
            self.replied_out(tc, Kind::Data, client, dial, then),
        ];
        let to = self.topology.frontend(dial);
        vec![
            self.case("a client outside reaches a backend elsewhere", established.clone()),
            self.case("XDP carries on what TC has begun", {
                let mut steps = established.clone();
                steps.push(self.forwarded_out(xdp, Kind::Data, client, dial, then));
                steps.push(self.replied_out(xdp, Kind::Data, client, dial, then));
                steps
            }),
            self.case("XDP begins a flow once the way is known", {
                let other = self.topology.client(CLIENT + 1);
                let ends = (other, to);
                vec![
                    self.passes(xdp, Kind::Open, ends, Outcome::PassedLeftToTc),
                    self.forwarded_out(xdp, Kind::Open, other, dial, then),
                    self.forwarded_out(xdp, Kind::Open, client, dial, then),
                ]
            }),
            self.case("a second service of the same backend gets another port of its own", {
                let too = Target::RemoteToo;
                let mut steps = established.clone();
                steps.push(self.forwarded_out(tc, Kind::Open, client, too, then));
                steps.push(self.replied_out(tc, Kind::Accept, client, too, then));
                steps
            }),
            self.case("an answer with nowhere to go is dropped", {
                let lost = self.topology.unroutable_client(CLIENT);
                let source = self.translated(lost, dial, 0);
                let ends = (self.topology.pod(Pod::Remote, BACKEND_PORT), source);
                vec![
                    self.forwarded_out(tc, Kind::Open, lost, dial, then),
                    self.drops(tc, Kind::Accept, ends, Outcome::DroppedNoRoute),
                ]
            }),
            Case {
                setting: Setting { snat_ports: Some(0), ..Setting::default() },
                ..self.case("without source ports no flow is begun whose source must change", {
                    vec![self.drops(tc, Kind::Open, (client, to), Outcome::DroppedNoSnatPort)]
                })
            },
            Case {
                setting: Setting { snat_ports: Some(1), ..Setting::default() },
                ..self.case("a port that a socket has is not taken", {
                    if self.protocol == Protocol::SCTP {
                        return_nothing()
                    } else {
                        vec![self.drops(tc, Kind::Open, (client, to), Outcome::DroppedNoSnatPort)]
                    }
                })
            },
            self.case("who sends a packet at the end of its life is message so", {
                let mut frame = frame::frame(client, to, self.protocol, Kind::Open, PAYLOAD);
                frame::set_hop_limit(&mut frame, 1);
                let icmp = if self.topology.family == Family::V4 { (11, 0, 0) } else { (3, 0, 0) };
                let message =
                    IcmpMessage { from: self.topology.node(0).ip(), to: client.ip(), icmp };
                vec![Step::IcmpError {
                    program: tc,
                    frame,
                    outcome: Outcome::RejectedTtlExpired,
                    message,
                }]
            }),
            self.case(
                "who sends a packet too large for the next link is message how large it is",
                {
                    let payload = [7; topology::MTU as usize];
                    let frame = frame::frame(client, to, self.protocol, Kind::Data, &payload);
                    let mtu = topology::MTU;
                    let icmp =
                        if self.topology.family == Family::V4 { (3, 4, mtu) } else { (2, 0, mtu) };
                    let message =
                        IcmpMessage { from: self.topology.node(0).ip(), to: client.ip(), icmp };
                    let mut steps = established.clone();
                    steps.push(Step::IcmpError {
                        program: tc,
                        frame,
                        outcome: Outcome::RejectedFragNeeded,
                        message,
                    });
                    steps
                },
            ),
        ]
    }

    /// A pod that reaches itself through a Service.
    fn itself(self) -> Vec<Case> {
        let pod = self.topology.pod(Pod::Local, CLIENT);
        let frontend = self.topology.frontend(Target::Local);
        let backend = self.topology.pod(Pod::Local, BACKEND_PORT);
        let stands_in = SocketAddr::new(frontend.ip(), CLIENT);
        vec![self.case("a pod reaches itself through a service", {
            [
                (Kind::Open, (pod, frontend), Outcome::ForwardedHairpin, (stands_in, backend)),
                (Kind::Accept, (backend, stands_in), Outcome::RepliedHairpin, (frontend, pod)),
                (Kind::Data, (pod, frontend), Outcome::ForwardedHairpin, (stands_in, backend)),
            ]
            .into_iter()
            .map(|(kind, ends, outcome, leaves)| {
                let leaves = Some(leaves);
                self.packet(Program::FromPod, kind, ends, outcome, Verdict::Tx, leaves)
            })
            .collect()
        })]
    }
}
