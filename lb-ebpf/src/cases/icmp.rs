//! Cases in which somebody is message something: rejections, echo replies, ICMP errors that are sent on.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::builder::{CLIENT, CaseBuilder, PAYLOAD};
use super::frame::{self, Icmp, IcmpMessage, Kind};
use super::topology::{BACKEND_PORT, Pod, Target};
use super::{Case, Program, Step};
use crate::hook::Verdict;

impl CaseBuilder {
    /// Whom a packet is sent to by nobody's fault but its own.
    pub(super) fn rejected(self) -> Vec<Case> {
        let pod = self.topology.client_pod(CLIENT);
        let nobody = self.topology.frontend(Target::NoEndpoints);
        let undefined = SocketAddr::new(self.topology.frontend(Target::Local).ip(), 81);
        let unreachable = self.by_family((3, 3, 0), (1, 4, 0));
        let tells = |to: SocketAddr, payload: &[u8], outcome| {
            let frame = frame::frame(pod, to, self.protocol, Kind::Open, payload);
            let message = IcmpMessage { from: to.ip(), to: pod.ip(), icmp: unreachable };
            Step::IcmpError { program: Program::FromPod, frame, outcome, message }
        };
        let no_endpoint = tells(nobody, PAYLOAD, Outcome::RejectedNoEndpoint);
        let left = |to, outcome| self.passes(Program::NetworkXdp, Kind::Open, (pod, to), outcome);
        let drops = |to, outcome| self.drops(Program::FromPod, Kind::Open, (pod, to), outcome);
        vec![
            self.case("who dials a service without endpoints is message so", {
                vec![
                    no_endpoint.clone(),
                    tells(nobody, &[7; 1300], Outcome::RejectedNoEndpoint),
                    left(nobody, Outcome::PassedLeftToTc),
                ]
            }),
            self.case("who dials a port that a service has not is message so", {
                vec![tells(undefined, PAYLOAD, Outcome::RejectedNoSuchPort)]
            }),
            self.case("what is sent to an address that no service has is dropped", {
                vec![drops(self.topology.unallocated(80), Outcome::DroppedUnallocatedAddress)]
            }),
            self.case("no more is message than the node may tell", {
                vec![
                    Step::IcmpLimit(1),
                    no_endpoint,
                    drops(nobody, Outcome::DroppedIcmpSuppressed),
                    drops(undefined, Outcome::DroppedIcmpSuppressed),
                ]
            }),
            self.case("who is outside the source ranges hears nothing", {
                let client = self.topology.client(CLIENT);
                let to = self.topology.frontend(Target::Restricted);
                vec![
                    drops(to, Outcome::DroppedSourceRange),
                    self.forwarded(Program::FromNetwork, Kind::Open, client, Target::Restricted),
                ]
            }),
        ]
    }

    /// Packets that cannot be sent on, and echo requests.
    pub(super) fn echoes(self) -> Vec<Case> {
        let client = self.topology.client(CLIENT);
        let to = self.topology.frontend(Target::Remote);
        let program = Program::FromNetwork;
        let echo = |from: IpAddr, kind, payload| frame::icmp(from, to.ip(), (kind, 0, 9), payload);
        let (request, reply) = self.by_family((8, 0), (128, 129));
        let mut answer = frame::icmp(to.ip(), client.ip(), (reply, 0, 9), PAYLOAD);
        frame::swap_link_addresses(&mut answer);
        vec![
            self.case("an echo request to a service is answered", {
                vec![
                    Step::Becomes {
                        program,
                        frame: echo(client.ip(), request, PAYLOAD),
                        outcome: Outcome::EchoReplied,
                        verdict: Verdict::Tx,
                        becomes: answer,
                    },
                    Step::IcmpLimit(0),
                    self.odd_step(
                        program,
                        echo(client.ip(), request, PAYLOAD),
                        (Outcome::DroppedIcmpSuppressed, Verdict::Drop),
                    ),
                ]
            }),
            self.case("an echo request to an address that no service has is dropped", {
                let to = self.topology.unallocated(0).ip();
                let frame = frame::icmp(client.ip(), to, (request, 0, 9), PAYLOAD);
                vec![self.odd_step(
                    program,
                    frame,
                    (Outcome::DroppedUnallocatedAddress, Verdict::Drop),
                )]
            }),
            self.case("an echo request to the node is the node's own", {
                let to = self.topology.node(0).ip();
                let frame = frame::icmp(client.ip(), to, (request, 0, 9), PAYLOAD);
                vec![self.odd_step(program, frame, (Outcome::PassedEcho, Verdict::Pass))]
            }),
        ]
    }

    /// Errors about translated packets.
    pub(super) fn errors(self) -> Vec<Case> {
        let (pod, client) = (self.topology.client_pod(CLIENT), self.topology.client(CLIENT));
        let router = self.topology.router();
        let too_big = self.by_family((3, 4, 1280), (2, 0, 1280));
        let refused = self.by_family((3, 3, 0), (1, 4, 0));
        let expired = self.by_family((11, 0, 0), (3, 0, 0));
        let here = self.topology.pod(Pod::Local, BACKEND_PORT);
        let there = self.topology.pod(Pod::Remote, BACKEND_PORT);
        let (frontend, afar) =
            (self.topology.frontend(Target::Local), self.topology.frontend(Target::Remote));
        let own = self.translated(client, Target::Remote, 0);
        let begun = self.established(Program::FromPod, pod, Target::Local);
        let (to_device, network) = (Program::ToDevice, Program::FromNetwork);
        let replied = (Outcome::RepliedIcmpError, Verdict::Pass);
        let forwarded = (Outcome::ForwardedIcmpError, Verdict::Pass);
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
                let mut steps = self.established(network, client, Target::Local);
                let before = (router, too_big, (frontend, client));
                steps.push(self.error(network, before, (router, (here, client)), forwarded));
                steps
            }),
            self.case("an error is left alone where its packet's answers are", {
                let mut steps = begun;
                let quote = self.quote(pod, here);
                let frame = frame::icmp(router, pod.ip(), too_big, &quote);
                let end = (Outcome::PassedOtherHook, Verdict::Pass);
                steps.push(self.odd_step(Program::FromPod, frame, end));
                steps
            }),
            self.case("an error about no flow is left alone", {
                let frame = frame::icmp(router, pod.ip(), too_big, &self.quote(pod, here));
                let xdp = (Outcome::PassedLeftToTc, Verdict::Pass);
                vec![
                    self.odd_step(
                        to_device,
                        frame.clone(),
                        (Outcome::PassedIcmpError, Verdict::Pass),
                    ),
                    self.odd_step(Program::NetworkXdp, frame, xdp),
                ]
            }),
        ];
        let out = Verdict::Redirect(self.device);
        let resolve = Verdict::RedirectNeigh(self.device);
        cases.push(self.case("an error from beyond goes to whom the packet came from", {
            let opened = (0, out);
            let mut steps =
                vec![self.forwarded_out(network, Kind::Open, client, Target::Remote, opened)];
            for (from, icmp, verdict) in
                [(router, too_big, resolve), (there.ip(), refused, out), (router, expired, out)]
            {
                // Whoever says it, it comes from the frontend: this node sends it on.
                let after = (afar.ip(), (client, afar));
                let end = (Outcome::RepliedIcmpError, verdict);
                steps.push(self.error(network, (from, icmp, (own, there)), after, end));
            }
            let before = (router, too_big, (afar, client));
            let end = (Outcome::ForwardedIcmpError, out);
            steps.push(self.error(network, before, (own.ip(), (there, own)), end));
            steps
        }));
        cases
    }

    fn by_family<T>(self, v4: T, v6: T) -> T {
        match self.topology.family {
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
        (outcome, verdict): (Outcome, Verdict),
    ) -> Step {
        let (quote, mut new_quote) = (self.quote(a, b), self.quote(c, d));
        if self.protocol == Protocol::SCTP {
            // Nobody checks a quote's checksum, which this one could seldom be: it is cut short.
            let at = if self.topology.family == Family::V4 { 28..32 } else { 48..52 };
            new_quote[at.clone()].copy_from_slice(&quote[at]);
        }
        let frame = frame::icmp(from, a.ip(), icmp, &quote);
        let mut becomes = frame::icmp(new_from, c.ip(), icmp, &new_quote);
        if !matches!(verdict, Verdict::Pass) {
            frame::set_hop_limit(&mut becomes, frame::HOP_LIMIT - 1);
        }
        if matches!(verdict, Verdict::Redirect(_)) {
            frame::set_link_addresses(&mut becomes);
        }
        Step::Becomes { program, frame, outcome, verdict, becomes }
    }

    /// The step's error with a quote of no more than every error must have (RFC 792), and a trailer
    /// behind it, as some links leave one.
    fn cut_short(self, step: Step) -> Step {
        let Step::Becomes { program, frame, outcome, verdict, becomes } = step else {
            return step;
        };
        let quoted = match self.topology.family {
            Family::V4 => 20 + 8,
            Family::V6 => 40 + 8,
        };
        let cut = |frame: &[u8]| {
            let (message, quote) = frame::icmp_message(frame).expect("the step is about an error");
            let mut frame = frame::icmp(message.from, message.to, message.icmp, &quote[..quoted]);
            frame.extend([0xa5; 30]);
            frame
        };
        Step::Becomes { program, outcome, verdict, frame: cut(&frame), becomes: cut(&becomes) }
    }

    /// A packet that leaves as it came, or not at all.
    pub(super) fn odd_step(
        self,
        program: Program,
        frame: Vec<u8>,
        (outcome, verdict): (Outcome, Verdict),
    ) -> Step {
        Step::Packet { program, frame, outcome, verdict, leaves: None }
    }
}
