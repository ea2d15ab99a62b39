//! The cases themselves. Each is a function of family and protocol, told once.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::frame::{self, Kind, Told};
use super::lab::{self, BACKEND_PORT, Dial, Lab, Pod};
use super::{Case, Program, Setting, Step};
use crate::balance::Onward;
use crate::unusual::is_unusual;

/// Every case, in both families and protocols where it makes sense. `device` is the interface index
/// of the node's network device.
#[must_use]
pub fn all(device: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let tell = Tell { lab: Lab { family }, protocol, device };
            cases.extend(tell.both());
            cases.extend(tell.rejected());
            cases.extend(tell.errors());
            match protocol {
                Protocol::TCP => cases.extend(tell.tcp().into_iter().chain(tell.answered())),
                Protocol::UDP => cases.extend(tell.udp()),
                _ => {}
            }
            if protocol != Protocol::SCTP {
                cases.extend(tell.fragments());
            }
        }
    }
    cases
}

/// The teller of a family's and protocol's cases.
#[derive(Clone, Copy)]
pub(super) struct Tell {
    pub(super) lab: Lab,
    pub(super) protocol: Protocol,
    pub(super) device: u32,
}

pub(super) const CLIENT: u16 = 40_000;
pub(super) const PAYLOAD: &[u8] = b"a payload of an odd length.";

impl Tell {
    pub(super) fn case(self, sentence: &'static str, steps: Vec<Step>) -> Case {
        let Self { lab: Lab { family }, protocol, .. } = self;
        Case { sentence, family, protocol, setting: Setting::default(), steps }
    }

    fn packet(
        self,
        program: Program,
        kind: Kind,
        (from, to): (SocketAddr, SocketAddr),
        outcome: Outcome,
        onward: Onward,
        leaves: Option<(SocketAddr, SocketAddr)>,
    ) -> Step {
        let frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        Step::Packet { program, frame, outcome, onward, leaves }
    }

    /// A packet that leaves as it came.
    pub(super) fn passes(
        self,
        program: Program,
        kind: Kind,
        ends: (SocketAddr, SocketAddr),
        outcome: Outcome,
    ) -> Step {
        self.packet(program, kind, ends, outcome, Onward::On, None)
    }

    /// A packet that is dropped.
    pub(super) fn drops(
        self,
        program: Program,
        kind: Kind,
        ends: (SocketAddr, SocketAddr),
        outcome: Outcome,
    ) -> Step {
        self.packet(program, kind, ends, outcome, Onward::Drop, None)
    }

    /// A packet from `client` to a service whose backend is the pod here.
    pub(super) fn forwarded(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        dial: Dial,
    ) -> Step {
        let (to, backend) = (self.lab.dial(dial), self.lab.pod(Pod::Here, BACKEND_PORT));
        let leaves = Some((client, backend));
        self.packet(program, kind, (client, to), Outcome::Forwarded, Onward::On, leaves)
    }

    /// Its answer.
    fn replied(self, kind: Kind, client: SocketAddr, dial: Dial) -> Step {
        let (frontend, backend) = (self.lab.dial(dial), self.lab.pod(Pod::Here, BACKEND_PORT));
        let leaves = Some((frontend, client));
        let ends = (backend, client);
        self.packet(Program::ToDevice, kind, ends, Outcome::Replied, Onward::On, leaves)
    }

    /// The node's own address and the source port that the `attempt`th try gives a flow.
    pub(super) fn translated(self, client: SocketAddr, dial: Dial, attempt: u32) -> SocketAddr {
        let to = self.lab.dial(dial);
        self.lab.node(self.lab.source_port(client, to, self.protocol, attempt))
    }

    /// A packet from `client` to a service whose backend is the pod elsewhere.
    pub(super) fn forwarded_out(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        dial: Dial,
        (attempt, onward): (u32, Onward),
    ) -> Step {
        let source = self.translated(client, dial, attempt);
        let leaves = Some((source, self.lab.pod(Pod::Elsewhere, BACKEND_PORT)));
        let ends = (client, self.lab.dial(dial));
        self.packet(program, kind, ends, Outcome::ForwardedOut, onward, leaves)
    }

    /// Its answer.
    fn replied_out(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        dial: Dial,
        (attempt, onward): (u32, Onward),
    ) -> Step {
        let source = self.translated(client, dial, attempt);
        let ends = (self.lab.pod(Pod::Elsewhere, BACKEND_PORT), source);
        let leaves = Some((self.lab.dial(dial), client));
        self.packet(program, kind, ends, Outcome::RepliedOut, onward, leaves)
    }

    fn resolve(self) -> Onward {
        Onward::Resolve(self.device)
    }

    fn out(self) -> Onward {
        Onward::Out(self.device)
    }

    /// Steps that establish a connection from `client` to the pod here.
    pub(super) fn established(self, program: Program, client: SocketAddr, dial: Dial) -> Vec<Step> {
        vec![
            self.forwarded(program, Kind::Open, client, dial),
            self.replied(Kind::Accept, client, dial),
            self.forwarded(program, Kind::Data, client, dial),
        ]
    }

    fn both(self) -> Vec<Case> {
        let pod = self.lab.neighbour(CLIENT);
        let client = self.lab.client(CLIENT);
        let backend = self.lab.pod(Pod::Here, BACKEND_PORT);
        let mut cases = vec![
            self.case("a pod reaches a backend here, and hears from the service", {
                let mut steps = self.established(Program::FromPod, pod, Dial::Here);
                steps.push(self.replied(Kind::Data, pod, Dial::Here));
                steps
            }),
            self.case("an answer is left alone where it enters the stack", {
                let mut steps = self.established(Program::FromPod, pod, Dial::Here);
                let ends = (backend, pod);
                steps.push(self.passes(Program::FromPod, Kind::Data, ends, Outcome::OtherHook));
                steps
            }),
            self.case("a client outside keeps its address towards a backend here", {
                let mut steps = self.established(Program::FromNetwork, client, Dial::Here);
                steps.push(self.replied(Kind::Data, client, Dial::Here));
                steps
            }),
            self.case("a pod keeps its address towards a backend elsewhere", {
                let there = self.lab.pod(Pod::Elsewhere, BACKEND_PORT);
                let to = self.lab.dial(Dial::Elsewhere);
                let leaves = Some((pod, there));
                let (outcome, on) = (Outcome::Forwarded, Onward::On);
                let program = Program::FromPod;
                vec![self.packet(program, Kind::Open, (pod, to), outcome, on, leaves)]
            }),
            self.case("what XDP would have to pass up translated it leaves as it is", {
                let to = self.lab.dial(Dial::Here);
                let left =
                    |kind| self.passes(Program::NetworkXdp, kind, (client, to), Outcome::LeftToTc);
                let mut steps = vec![left(Kind::Open)];
                steps.extend(self.established(Program::FromNetwork, client, Dial::Here));
                steps.push(left(Kind::Data));
                steps
            }),
            self.case("a service with no endpoint on this node drops if its policy is Local", {
                let ends = (client, self.lab.dial(Dial::NobodyHere));
                vec![self.drops(Program::FromNetwork, Kind::Open, ends, Outcome::NoLocalEndpoint)]
            }),
            self.case("a slot that names no backend drops", {
                let ends = (pod, self.lab.dial(Dial::Broken));
                vec![self.drops(Program::FromPod, Kind::Open, ends, Outcome::NoBackend)]
            }),
            self.case("two services, one client port, one backend: each hears from its own", {
                let second = self.translated(pod, Dial::HereToo, 1).port();
                let mut steps = self.established(Program::FromPod, pod, Dial::Here);
                let too = self.lab.dial(Dial::HereToo);
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
                    steps.push(self.packet(program, kind, ends, outcome, Onward::On, leaves));
                }
                steps.push(self.replied(Kind::Data, pod, Dial::Here));
                steps
            }),
            self.case("a flow whose answers' entry was evicted gets it back", {
                vec![
                    self.forwarded(Program::FromPod, Kind::Open, pod, Dial::Here),
                    Step::Evict(backend, pod),
                    self.forwarded(Program::FromPod, Kind::Open, pod, Dial::Here),
                    self.replied(Kind::Accept, pod, Dial::Here),
                ]
            }),
            self.case("a flow whose own entry was evicted keeps its answers", {
                vec![
                    self.forwarded(Program::FromPod, Kind::Open, pod, Dial::Here),
                    Step::Evict(pod, self.lab.dial(Dial::Here)),
                    self.forwarded(Program::FromPod, Kind::Open, pod, Dial::Here),
                    self.replied(Kind::Accept, pod, Dial::Here),
                ]
            }),
            Case {
                setting: Setting { capacity: Some(1), ..Setting::default() },
                ..self.case("a full table keeps the flow among the half-open", {
                    let to = self.lab.dial(Dial::Here);
                    let crowded = self.packet(
                        Program::FromPod,
                        Kind::Data,
                        (pod, to),
                        Outcome::ForwardedCrowded,
                        Onward::On,
                        Some((pod, backend)),
                    );
                    vec![
                        self.forwarded(Program::FromPod, Kind::Open, pod, Dial::Here),
                        self.replied(Kind::Accept, pod, Dial::Here),
                        crowded.clone(),
                        self.replied(Kind::Data, pod, Dial::Here),
                        crowded,
                    ]
                })
            },
            self.case("a packet to no service is left alone", {
                let ends = (pod, self.lab.dial(Dial::Nothing));
                [Program::FromPod, Program::FromNetwork, Program::ToDevice, Program::NetworkXdp]
                    .map(|program| self.passes(program, Kind::Data, ends, Outcome::NotAService))
                    .to_vec()
            }),
            self.case("a packet between pods is left alone", {
                let ends = (pod, self.lab.pod(Pod::Elsewhere, BACKEND_PORT));
                vec![
                    self.passes(Program::FromPod, Kind::Open, ends, Outcome::NotAService),
                    self.passes(Program::ToDevice, Kind::Open, ends, Outcome::NotAService),
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
        let dial = Dial::Elsewhere;
        let first = (0, self.resolve());
        let then = (0, self.out());
        let established = vec![
            self.forwarded_out(tc, Kind::Open, client, dial, then),
            self.replied_out(tc, Kind::Accept, client, dial, first),
            self.forwarded_out(tc, Kind::Data, client, dial, then),
            self.replied_out(tc, Kind::Data, client, dial, then),
        ];
        let to = self.lab.dial(dial);
        vec![
            self.case("a client outside reaches a backend elsewhere", established.clone()),
            self.case("XDP carries on what TC has begun", {
                let mut steps = established.clone();
                steps.push(self.forwarded_out(xdp, Kind::Data, client, dial, then));
                steps.push(self.replied_out(xdp, Kind::Data, client, dial, then));
                steps
            }),
            self.case("XDP begins a flow once the way is known", {
                let other = self.lab.client(CLIENT + 1);
                let ends = (other, to);
                vec![
                    self.passes(xdp, Kind::Open, ends, Outcome::LeftToTc),
                    self.forwarded_out(xdp, Kind::Open, other, dial, then),
                    self.forwarded_out(xdp, Kind::Open, client, dial, then),
                ]
            }),
            self.case("a second service of the same backend gets another port of its own", {
                let too = Dial::ElsewhereToo;
                let mut steps = established.clone();
                steps.push(self.forwarded_out(tc, Kind::Open, client, too, then));
                steps.push(self.replied_out(tc, Kind::Accept, client, too, then));
                steps
            }),
            self.case("an answer with nowhere to go is dropped", {
                let lost = self.lab.lost_client(CLIENT);
                let source = self.translated(lost, dial, 0);
                let ends = (self.lab.pod(Pod::Elsewhere, BACKEND_PORT), source);
                vec![
                    self.forwarded_out(tc, Kind::Open, lost, dial, then),
                    self.drops(tc, Kind::Accept, ends, Outcome::NoRoute),
                ]
            }),
            Case {
                setting: Setting { source_ports: Some(0), ..Setting::default() },
                ..self.case("without source ports no flow is begun whose source must change", {
                    vec![self.drops(tc, Kind::Open, (client, to), Outcome::NoSourcePort)]
                })
            },
            Case {
                setting: Setting { source_ports: Some(1), ..Setting::default() },
                ..self.case("a port that a socket has is not taken", {
                    if self.protocol == Protocol::SCTP {
                        return_nothing()
                    } else {
                        vec![self.drops(tc, Kind::Open, (client, to), Outcome::NoSourcePort)]
                    }
                })
            },
            self.case("who sends a packet at the end of its life is told so", {
                let mut frame = frame::frame(client, to, self.protocol, Kind::Open, PAYLOAD);
                frame::set_hops(&mut frame, 1);
                let icmp = if self.lab.family == Family::V4 { (11, 0, 0) } else { (3, 0, 0) };
                let told = Told { from: self.lab.node(0).ip(), to: client.ip(), icmp };
                vec![Step::Tells { program: tc, frame, outcome: Outcome::RejectedTtlExpired, told }]
            }),
            self.case("who sends a packet too large for the next link is told how large it is", {
                let payload = [7; lab::MTU as usize];
                let frame = frame::frame(client, to, self.protocol, Kind::Data, &payload);
                let mtu = lab::MTU;
                let icmp = if self.lab.family == Family::V4 { (3, 4, mtu) } else { (2, 0, mtu) };
                let told = Told { from: self.lab.node(0).ip(), to: client.ip(), icmp };
                let mut steps = established.clone();
                steps.push(Step::Tells {
                    program: tc,
                    frame,
                    outcome: Outcome::RejectedTooBig,
                    told,
                });
                steps
            }),
        ]
    }

    /// A pod that reaches itself through a Service.
    fn itself(self) -> Vec<Case> {
        let pod = self.lab.pod(Pod::Here, CLIENT);
        let frontend = self.lab.dial(Dial::Here);
        let backend = self.lab.pod(Pod::Here, BACKEND_PORT);
        let stands_in = SocketAddr::new(frontend.ip(), CLIENT);
        vec![self.case("a pod reaches itself through a service", {
            [
                (Kind::Open, (pod, frontend), Outcome::ForwardedBack, (stands_in, backend)),
                (Kind::Accept, (backend, stands_in), Outcome::RepliedBack, (frontend, pod)),
                (Kind::Data, (pod, frontend), Outcome::ForwardedBack, (stands_in, backend)),
            ]
            .into_iter()
            .map(|(kind, ends, outcome, leaves)| {
                let leaves = Some(leaves);
                self.packet(Program::FromPod, kind, ends, outcome, Onward::Back, leaves)
            })
            .collect()
        })]
    }

    /// Packets that are left alone for what they are.
    fn odd(self, pod: SocketAddr) -> Vec<Case> {
        let to = self.lab.dial(Dial::Here);
        let whole = frame::frame(pod, to, self.protocol, Kind::Open, PAYLOAD);
        let left = |sentence, frame: Vec<u8>, outcome| {
            let steps = [Program::FromPod, Program::NetworkXdp].map(|program| {
                let is_left = program == Program::NetworkXdp && is_unusual(outcome);
                let outcome = if is_left { Outcome::LeftToTc } else { outcome };
                let frame = frame.clone();
                Step::Packet { program, frame, outcome, onward: Onward::On, leaves: None }
            });
            self.case(sentence, steps.to_vec())
        };
        let changed = |at: usize, bytes: &[u8]| {
            let mut frame = whole.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let is_v4 = self.lab.family == Family::V4;
        // Where the protocol and the fragment fields stand, and the transport header begins.
        let (protocol, transport) = if is_v4 { (23, 34) } else { (20, 54) };
        let mut cases = vec![
            left("what is not IP is left alone", changed(12, &[8, 6]), Outcome::NotIp),
            left("what has a VLAN tag is left alone", changed(12, &[0x81, 0]), Outcome::Vlan),
            left("another version under this EtherType", changed(14, &[0x95]), Outcome::Malformed),
            left("an IP header cut short", whole[..transport - 1].to_vec(), Outcome::Malformed),
            left(
                "a transport header cut short",
                whole[..transport + 7].to_vec(),
                Outcome::Malformed,
            ),
            left("DCCP is left alone", changed(protocol, &[33]), Outcome::NotTransport),
        ];
        let icmp = if is_v4 { 1 } else { 58 };
        let types = if is_v4 {
            [
                (3, Outcome::IcmpError),
                (11, Outcome::IcmpError),
                (0, Outcome::NotTransport),
                (13, Outcome::NotTransport),
            ]
        } else {
            [
                (2, Outcome::IcmpError),
                (1, Outcome::IcmpError),
                (129, Outcome::NotTransport),
                (135, Outcome::NotTransport),
            ]
        };
        for (kind, outcome) in types {
            let mut frame = changed(protocol, &[icmp]);
            frame[transport] = kind;
            cases.push(left("ICMP is told apart", frame, outcome));
        }
        if is_v4 {
            cases.push(left(
                "a header length below five",
                changed(14, &[0x44]),
                Outcome::Malformed,
            ));
        } else {
            let cut_short = whole[..transport + 7].to_vec();
            for next in [0, 43, 44, 51, 60] {
                let mut frame = cut_short.clone();
                frame[protocol] = next;
                let end = (Outcome::Malformed, Onward::On);
                let steps = vec![self.odd_step(Program::FromPod, frame, end)];
                cases.push(self.case("an extension header cut short", steps));
            }
        }
        cases
    }

    fn tcp(self) -> Vec<Case> {
        let pod = self.lab.neighbour(CLIENT);
        let other = self.lab.neighbour(CLIENT + 1);
        let backend = self.lab.pod(Pod::Here, BACKEND_PORT);
        let program = Program::FromPod;
        let forwarded = |kind| self.forwarded(program, kind, pod, Dial::Here);
        let replied = |kind| self.replied(kind, pod, Dial::Here);
        let ends = (pod, self.lab.dial(Dial::Here));
        let established = || self.established(program, pod, Dial::Here);
        let after = |more: Vec<Step>| {
            let mut steps = established();
            steps.extend(more);
            steps
        };
        vec![
            self.case("an established connection stays though its endpoint goes", {
                after(vec![Step::Retire(Pod::Here), forwarded(Kind::Data), replied(Kind::Data)])
            }),
            self.case("a closed connection may be opened anew", {
                after(vec![
                    forwarded(Kind::Close),
                    replied(Kind::Close),
                    forwarded(Kind::Data),
                    forwarded(Kind::Open),
                    replied(Kind::Accept),
                    forwarded(Kind::Data),
                ])
            }),
            self.case("a connection opened anew does not go to an endpoint that is gone", {
                // The rows still name the slot, so the new flow gets the same backend: what counts is
                // that the old entry is not followed, which the next packet's state shows.
                after(vec![
                    forwarded(Kind::Close),
                    replied(Kind::Close),
                    Step::Retire(Pod::Here),
                    forwarded(Kind::Open),
                ])
            }),
            self.case("a reset that both sides ignore changes nothing", {
                after(vec![
                    forwarded(Kind::Reset),
                    replied(Kind::Data),
                    forwarded(Kind::Data),
                    replied(Kind::Data),
                ])
            }),
            self.case("a packet from the middle of a forgotten connection finds a backend", {
                vec![forwarded(Kind::Data), replied(Kind::Data), forwarded(Kind::Data)]
            }),
            self.case("a direct connection hears the backend itself once the old one is over", {
                after(vec![
                    forwarded(Kind::Reset),
                    self.passes(program, Kind::Open, (pod, backend), Outcome::NotAService),
                    self.passes(
                        Program::ToDevice,
                        Kind::Accept,
                        (backend, pod),
                        Outcome::NotAService,
                    ),
                ])
            }),
            self.case("a direct connection does not cut one through the service that lives", {
                after(vec![
                    self.passes(program, Kind::Open, (pod, backend), Outcome::NotAService),
                    replied(Kind::Data),
                ])
            }),
            self.case("a refused connection may be tried again", {
                vec![forwarded(Kind::Open), replied(Kind::Reset), forwarded(Kind::Open)]
            }),
            self.case("a repeated opening follows the first", {
                vec![
                    forwarded(Kind::Open),
                    forwarded(Kind::Open),
                    replied(Kind::Accept),
                    forwarded(Kind::Open),
                    replied(Kind::Accept),
                    forwarded(Kind::Data),
                    self.forwarded(program, Kind::Open, other, Dial::Here),
                ]
            }),
            self.case("options in an IP header are stepped over", {
                if self.lab.family == Family::V6 {
                    return_nothing()
                } else {
                    let frame = with_options(&frame::frame(
                        pod,
                        ends.1,
                        self.protocol,
                        Kind::Open,
                        PAYLOAD,
                    ));
                    let (outcome, onward) = (Outcome::Forwarded, Onward::On);
                    vec![Step::Packet {
                        program,
                        frame,
                        outcome,
                        onward,
                        leaves: Some((pod, backend)),
                    }]
                }
            }),
        ]
    }

    fn udp(self) -> Vec<Case> {
        let pod = self.lab.neighbour(CLIENT);
        let program = Program::FromPod;
        let forwarded = self.forwarded(program, Kind::Data, pod, Dial::Here);
        let replied = self.replied(Kind::Data, pod, Dial::Here);
        let mut cases = vec![
            self.case("a flow leaves an endpoint that is gone at its next packet", {
                // The rows still name the slot; the flow begins anew, which its answers survive.
                let mut steps = self.established(program, pod, Dial::Here);
                steps.extend([Step::Retire(Pod::Here), forwarded.clone(), replied.clone()]);
                steps
            }),
            self.case("a flow that is never answered stays with its backend", {
                vec![forwarded.clone(), forwarded.clone(), forwarded.clone()]
            }),
        ];
        if self.lab.family == Family::V4 {
            cases.push(self.case("a datagram without checksum stays without", {
                let to = self.lab.dial(Dial::Here);
                let mut frame = frame::frame(pod, to, self.protocol, Kind::Data, PAYLOAD);
                frame[40..42].fill(0);
                let leaves = Some((pod, self.lab.pod(Pod::Here, BACKEND_PORT)));
                let (outcome, onward) = (Outcome::Forwarded, Onward::On);
                vec![Step::Packet { program, frame, outcome, onward, leaves }]
            }));
        }
        cases
    }
}

/// No steps: the case does not exist in this family or protocol.
const fn return_nothing() -> Vec<Step> {
    Vec::new()
}

/// The same IPv4 packet with eight bytes of options: no-operations and an end.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut longer = frame[..34].to_vec();
    longer.extend([1, 1, 1, 1, 1, 1, 1, 0]);
    longer.extend(&frame[34..]);
    longer[14] = 0x47;
    let length = u16::from_be_bytes([frame[16], frame[17]]) + 8;
    longer[16..18].copy_from_slice(&length.to_be_bytes());
    frame::set_ipv4_checksum(&mut longer);
    longer
}
