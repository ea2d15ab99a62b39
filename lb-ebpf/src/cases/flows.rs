//! Cases of flows: how they begin, go on, end, and begin anew.

use lb_common::address::Family;
use lb_common::outcome::Outcome;

use super::builder::{CLIENT, CaseBuilder, PAYLOAD, return_nothing};
use super::frame::{self, Kind};
use super::topology::{BACKEND_PORT, Pod, Target};
use super::{Case, Program, Step};
use crate::hook::Verdict;

impl CaseBuilder {
    pub(super) fn tcp(self) -> Vec<Case> {
        let pod = self.topology.client_pod(CLIENT);
        let other = self.topology.client_pod(CLIENT + 1);
        let backend = self.topology.pod(Pod::Local, BACKEND_PORT);
        let program = Program::FromPod;
        let forwarded = |kind| self.forwarded(program, kind, pod, Target::Local);
        let replied = |kind| self.replied(kind, pod, Target::Local);
        let ends = (pod, self.topology.frontend(Target::Local));
        let established = || self.established(program, pod, Target::Local);
        let after = |more: Vec<Step>| {
            let mut steps = established();
            steps.extend(more);
            steps
        };
        vec![
            self.case("an established connection stays though its endpoint goes", {
                after(vec![Step::Retire(Pod::Local), forwarded(Kind::Data), replied(Kind::Data)])
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
                    Step::Retire(Pod::Local),
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
                    self.passes(program, Kind::Open, (pod, backend), Outcome::PassedNotAService),
                    self.passes(
                        Program::ToDevice,
                        Kind::Accept,
                        (backend, pod),
                        Outcome::PassedNotAService,
                    ),
                ])
            }),
            self.case("a direct connection does not cut one through the service that lives", {
                after(vec![
                    self.passes(program, Kind::Open, (pod, backend), Outcome::PassedNotAService),
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
                    self.forwarded(program, Kind::Open, other, Target::Local),
                ]
            }),
            self.case("options in an IP header are stepped over", {
                if self.topology.family == Family::V6 {
                    return_nothing()
                } else {
                    let frame = frame::with_ipv4_options(&frame::frame(
                        pod,
                        ends.1,
                        self.protocol,
                        Kind::Open,
                        PAYLOAD,
                    ));
                    let (outcome, verdict) = (Outcome::Forwarded, Verdict::Pass);
                    vec![Step::Packet {
                        program,
                        frame,
                        outcome,
                        verdict,
                        leaves: Some((pod, backend)),
                    }]
                }
            }),
        ]
    }

    pub(super) fn udp(self) -> Vec<Case> {
        let pod = self.topology.client_pod(CLIENT);
        let program = Program::FromPod;
        let forwarded = self.forwarded(program, Kind::Data, pod, Target::Local);
        let replied = self.replied(Kind::Data, pod, Target::Local);
        let mut cases = vec![
            self.case("a flow leaves an endpoint that is gone at its next packet", {
                // The rows still name the slot; the flow begins anew, which its answers survive.
                let mut steps = self.established(program, pod, Target::Local);
                steps.extend([Step::Retire(Pod::Local), forwarded.clone(), replied.clone()]);
                steps
            }),
            self.case("a flow that is never answered stays with its backend", {
                vec![forwarded.clone(), forwarded.clone(), forwarded.clone()]
            }),
        ];
        if self.topology.family == Family::V4 {
            cases.push(self.case("a datagram without checksum stays without", {
                let to = self.topology.frontend(Target::Local);
                let mut frame = frame::frame(pod, to, self.protocol, Kind::Data, PAYLOAD);
                frame[40..42].fill(0);
                let leaves = Some((pod, self.topology.pod(Pod::Local, BACKEND_PORT)));
                let (outcome, verdict) = (Outcome::Forwarded, Verdict::Pass);
                vec![Step::Packet { program, frame, outcome, verdict, leaves }]
            }));
        }
        cases
    }
}
