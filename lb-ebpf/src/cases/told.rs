//! Cases in which somebody is told something: rejections, echo replies, ICMP errors that are sent on.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::frame::{self, Icmp, Kind, Told};
use super::lab::{self, BACKEND_PORT, Dial, Pod};
use super::list::{CLIENT, PAYLOAD, Tell};
use super::{Case, Program, Step};
use crate::balance::Onward;

impl Tell {
    /// Whom a packet is sent to by nobody's fault but its own.
    pub(super) fn rejected(self) -> Vec<Case> {
        let pod = self.lab.neighbour(CLIENT);
        let nobody = self.lab.dial(Dial::Nobody);
        let undefined = SocketAddr::new(self.lab.dial(Dial::Here).ip(), 81);
        let unreachable = self.by_family((3, 3, 0), (1, 4, 0));
        let tells = |to: SocketAddr, payload: &[u8], outcome| {
            let frame = frame::frame(pod, to, self.protocol, Kind::Open, payload);
            let told = Told { from: to.ip(), to: pod.ip(), icmp: unreachable };
            Step::Tells { program: Program::FromPod, frame, outcome, told }
        };
        let no_endpoint = tells(nobody, PAYLOAD, Outcome::RejectedNoEndpoint);
        let left = |to, outcome| self.passes(Program::NetworkXdp, Kind::Open, (pod, to), outcome);
        let drops = |to, outcome| self.drops(Program::FromPod, Kind::Open, (pod, to), outcome);
        vec![
            self.case("who dials a service without endpoints is told so", {
                vec![
                    no_endpoint.clone(),
                    tells(nobody, &[7; 1300], Outcome::RejectedNoEndpoint),
                    left(nobody, Outcome::LeftToTc),
                ]
            }),
            self.case("who dials a port that a service has not is told so", {
                vec![tells(undefined, PAYLOAD, Outcome::RejectedUndefinedPort)]
            }),
            self.case("what is sent to an address that no service has is dropped", {
                vec![drops(self.lab.unallocated(80), Outcome::UnallocatedAddress)]
            }),
            self.case("no more is told than the node may tell", {
                vec![
                    Step::Answers(1),
                    no_endpoint,
                    drops(nobody, Outcome::Unrejected),
                    drops(undefined, Outcome::Unrejected),
                ]
            }),
            self.case("who is outside the source ranges hears nothing", {
                let client = self.lab.client(CLIENT);
                let to = self.lab.dial(Dial::Restricted);
                vec![
                    drops(to, Outcome::SourceRange),
                    self.forwarded(Program::FromNetwork, Kind::Open, client, Dial::Restricted),
                ]
            }),
        ]
    }

    /// Packets that cannot be sent on, and echo requests.
    pub(super) fn answered(self) -> Vec<Case> {
        let client = self.lab.client(CLIENT);
        let to = self.lab.dial(Dial::Elsewhere);
        let program = Program::FromNetwork;
        let echo = |from: IpAddr, kind, payload| frame::icmp(from, to.ip(), (kind, 0, 9), payload);
        let (request, reply) = self.by_family((8, 0), (128, 129));
        let answer = frame::icmp(to.ip(), client.ip(), (reply, 0, 9), PAYLOAD);
        vec![
            self.case("an echo request to a service is answered", {
                vec![
                    Step::Becomes {
                        program,
                        frame: echo(client.ip(), request, PAYLOAD),
                        outcome: Outcome::AnsweredPing,
                        onward: Onward::Back,
                        becomes: turned(answer),
                    },
                    Step::Answers(0),
                    self.odd_step(
                        program,
                        echo(client.ip(), request, PAYLOAD),
                        (Outcome::Unrejected, Onward::Drop),
                    ),
                ]
            }),
            self.case("an echo request to an address that no service has is dropped", {
                let to = self.lab.unallocated(0).ip();
                let frame = frame::icmp(client.ip(), to, (request, 0, 9), PAYLOAD);
                vec![self.odd_step(program, frame, (Outcome::UnallocatedAddress, Onward::Drop))]
            }),
            self.case("an echo request to the node is the node's own", {
                let to = self.lab.node(0).ip();
                let frame = frame::icmp(client.ip(), to, (request, 0, 9), PAYLOAD);
                vec![self.odd_step(program, frame, (Outcome::Ping, Onward::On))]
            }),
        ]
    }

    /// Errors about translated packets.
    pub(super) fn errors(self) -> Vec<Case> {
        let (pod, client) = (self.lab.neighbour(CLIENT), self.lab.client(CLIENT));
        let router = self.lab.router();
        let too_big = self.by_family((3, 4, 1280), (2, 0, 1280));
        let refused = self.by_family((3, 3, 0), (1, 4, 0));
        let expired = self.by_family((11, 0, 0), (3, 0, 0));
        let here = self.lab.pod(Pod::Here, BACKEND_PORT);
        let there = self.lab.pod(Pod::Elsewhere, BACKEND_PORT);
        let (frontend, afar) = (self.lab.dial(Dial::Here), self.lab.dial(Dial::Elsewhere));
        let own = self.translated(client, Dial::Elsewhere, 0);
        let begun = self.established(Program::FromPod, pod, Dial::Here);
        let (to_device, network) = (Program::ToDevice, Program::FromNetwork);
        let replied = (Outcome::RepliedError, Onward::On);
        let forwarded = (Outcome::ForwardedError, Onward::On);
        let mut cases = vec![
            self.case("a router's error about a packet to a backend is about the frontend", {
                let mut steps = begun.clone();
                for icmp in [too_big, expired] {
                    let before = (router, icmp, (pod, here));
                    steps.push(self.error(to_device, before, (router, (pod, frontend)), replied));
                }
                steps
            }),
            self.case("a backend's refusal is the frontend's", {
                let mut steps = vec![begun[0].clone()];
                let before = (here.ip(), refused, (pod, here));
                let after = (frontend.ip(), (pod, frontend));
                steps.push(self.error(to_device, before, after, replied));
                steps
            }),
            self.case("what stands behind an error is left as it is", {
                let mut steps = begun.clone();
                let before = (router, expired, (pod, here));
                let step = self.error(to_device, before, (router, (pod, frontend)), replied);
                steps.push(self.cut_short(step));
                steps
            }),
            self.case("an error about an answer goes to the backend", {
                let mut steps = self.established(network, client, Dial::Here);
                let before = (router, too_big, (frontend, client));
                steps.push(self.error(network, before, (router, (here, client)), forwarded));
                steps
            }),
            self.case("an error is left alone where its packet's answers are", {
                let mut steps = begun;
                let quote = self.quote(pod, here);
                let frame = frame::icmp(router, pod.ip(), too_big, &quote);
                let end = (Outcome::OtherHook, Onward::On);
                steps.push(self.odd_step(Program::FromPod, frame, end));
                steps
            }),
            self.case("an error about no flow is left alone", {
                let frame = frame::icmp(router, pod.ip(), too_big, &self.quote(pod, here));
                let xdp = (Outcome::LeftToTc, Onward::On);
                vec![
                    self.odd_step(to_device, frame.clone(), (Outcome::IcmpError, Onward::On)),
                    self.odd_step(Program::NetworkXdp, frame, xdp),
                ]
            }),
        ];
        let out = Onward::Out(self.device);
        let resolve = Onward::Resolve(self.device);
        cases.push(self.case("an error from beyond goes to whom the packet came from", {
            let opened = (0, out);
            let mut steps =
                vec![self.forwarded_out(network, Kind::Open, client, Dial::Elsewhere, opened)];
            for (from, icmp, onward) in
                [(router, too_big, resolve), (there.ip(), refused, out), (router, expired, out)]
            {
                // Whoever says it, it comes from the frontend: this node sends it on.
                let after = (afar.ip(), (client, afar));
                let end = (Outcome::RepliedError, onward);
                steps.push(self.error(network, (from, icmp, (own, there)), after, end));
            }
            let before = (router, too_big, (afar, client));
            let end = (Outcome::ForwardedError, out);
            steps.push(self.error(network, before, (own.ip(), (there, own)), end));
            steps
        }));
        cases
    }

    fn by_family<T>(self, v4: T, v6: T) -> T {
        match self.lab.family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// The IP packet that an error is about.
    fn quote(self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        frame::frame(from, to, self.protocol, Kind::Data, PAYLOAD).split_off(14)
    }

    /// An error from `before.0` about a packet between `before.2`, which becomes one from `after.0`
    /// about a packet between `after.1`.
    fn error(
        self,
        program: Program,
        (from, icmp, (a, b)): (IpAddr, Icmp, (SocketAddr, SocketAddr)),
        (new_from, (c, d)): (IpAddr, (SocketAddr, SocketAddr)),
        (outcome, onward): (Outcome, Onward),
    ) -> Step {
        let (quote, mut new_quote) = (self.quote(a, b), self.quote(c, d));
        if self.protocol == Protocol::SCTP {
            // Nobody checks a quote's checksum, which this one could seldom be: it is cut short.
            let at = if self.lab.family == Family::V4 { 28..32 } else { 48..52 };
            new_quote[at.clone()].copy_from_slice(&quote[at]);
        }
        let frame = frame::icmp(from, a.ip(), icmp, &quote);
        let mut becomes = frame::icmp(new_from, c.ip(), icmp, &new_quote);
        if !matches!(onward, Onward::On) {
            frame::set_hops(&mut becomes, frame::HOPS - 1);
        }
        if matches!(onward, Onward::Out(_)) {
            becomes[..6].copy_from_slice(&lab::ROUTER_LINK);
            becomes[6..12].copy_from_slice(&lab::NODE_LINK);
        }
        Step::Becomes { program, frame, outcome, onward, becomes }
    }

    /// The step's error with a quote of no more than every error must have (RFC 792), and a trailer
    /// behind it, as some links leave one.
    fn cut_short(self, step: Step) -> Step {
        let Step::Becomes { program, frame, outcome, onward, becomes } = step else {
            return step;
        };
        let quoted = match self.lab.family {
            Family::V4 => 20 + 8,
            Family::V6 => 40 + 8,
        };
        let cut = |frame: &[u8]| {
            let (told, quote) = frame::told(frame).expect("the step is about an error");
            let mut frame = frame::icmp(told.from, told.to, told.icmp, &quote[..quoted]);
            frame.extend([0xa5; 30]);
            frame
        };
        Step::Becomes { program, outcome, onward, frame: cut(&frame), becomes: cut(&becomes) }
    }

    /// A packet that leaves as it came, or not at all.
    pub(super) fn odd_step(
        self,
        program: Program,
        frame: Vec<u8>,
        (outcome, onward): (Outcome, Onward),
    ) -> Step {
        Step::Packet { program, frame, outcome, onward, leaves: None }
    }
}

/// The frame with its link addresses exchanged.
fn turned(mut frame: Vec<u8>) -> Vec<u8> {
    let (to, from) = frame[..12].split_at_mut(6);
    to.swap_with_slice(from);
    frame
}
