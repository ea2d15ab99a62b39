//! Cases of packets that are not read at a glance, or left alone for what they are.

use std::net::SocketAddr;

use lb_common::address::Family;
use lb_common::fragment::FirstFragment;
use lb_common::outcome::Outcome;

use super::builder::{CLIENT, CaseBuilder, PAYLOAD};
use super::frame::{self, Kind};
use super::topology::{BACKEND_PORT, Pod, Target};
use super::{Case, Program, Step};
use crate::hook::Verdict;
use crate::slow_path;

/// A payload that makes three fragments.
const LONG: [u8; 100] = [0x5a; 100];

impl CaseBuilder {
    /// Packets that are left alone for what they are.
    pub(super) fn odd(self, pod: SocketAddr) -> Vec<Case> {
        let to = self.topology.frontend(Target::Local);
        let whole = frame::frame(pod, to, self.protocol, Kind::Open, PAYLOAD);
        let left = |sentence, frame: Vec<u8>, outcome| {
            let steps = [Program::FromPod, Program::NetworkXdp].map(|program| {
                let is_left = program == Program::NetworkXdp && slow_path::takes(outcome);
                let outcome = if is_left { Outcome::PassedLeftToTc } else { outcome };
                let frame = frame.clone();
                Step::Packet { program, frame, outcome, verdict: Verdict::Pass, leaves: None }
            });
            self.case(sentence, steps.to_vec())
        };
        let changed = |at: usize, bytes: &[u8]| {
            let mut frame = whole.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let is_v4 = self.topology.family == Family::V4;
        // Where the protocol and the fragment fields stand, and the transport header begins.
        let (protocol, transport) = if is_v4 { (23, 34) } else { (20, 54) };
        let mut cases = vec![
            left("what is not IP is left alone", changed(12, &[8, 6]), Outcome::PassedNotIp),
            left("what has a VLAN tag is left alone", changed(12, &[0x81, 0]), Outcome::PassedVlan),
            left(
                "another version under this EtherType",
                changed(14, &[0x95]),
                Outcome::PassedMalformed,
            ),
            left(
                "an IP header cut short",
                whole[..transport - 1].to_vec(),
                Outcome::PassedMalformed,
            ),
            left(
                "a transport header cut short",
                whole[..transport + 7].to_vec(),
                Outcome::PassedMalformed,
            ),
            left(
                "DCCP is left alone",
                changed(protocol, &[33]),
                Outcome::PassedUnsupportedProtocol,
            ),
        ];
        let icmp = if is_v4 { 1 } else { 58 };
        let types = if is_v4 {
            [
                (3, Outcome::PassedIcmpError),
                (11, Outcome::PassedIcmpError),
                (0, Outcome::PassedUnsupportedProtocol),
                (13, Outcome::PassedUnsupportedProtocol),
            ]
        } else {
            [
                (2, Outcome::PassedIcmpError),
                (1, Outcome::PassedIcmpError),
                (129, Outcome::PassedUnsupportedProtocol),
                (135, Outcome::PassedUnsupportedProtocol),
            ]
        };
        for (kind, outcome) in types {
            let mut frame = changed(protocol, &[icmp]);
            frame[transport] = kind;
            cases.push(left("ICMP is message apart", frame, outcome));
        }
        if is_v4 {
            cases.push(left(
                "a header length below five",
                changed(14, &[0x44]),
                Outcome::PassedMalformed,
            ));
        } else {
            let cut_short = whole[..transport + 7].to_vec();
            for next in [0, 43, 44, 51, 60] {
                let mut frame = cut_short.clone();
                frame[protocol] = next;
                let end = (Outcome::PassedMalformed, Verdict::Pass);
                let steps = vec![self.odd_step(Program::FromPod, frame, end)];
                cases.push(self.case("an extension header cut short", steps));
            }
        }
        cases
    }

    /// Packets in pieces.
    pub(super) fn fragments(self) -> Vec<Case> {
        let (pod, client) = (self.topology.client_pod(CLIENT), self.topology.client(CLIENT));
        let to = self.topology.frontend(Target::Local);
        let backend = self.topology.pod(Pod::Local, BACKEND_PORT);
        let on = (Outcome::Forwarded, Verdict::Pass);
        let begun = self.established(Program::FromPod, pod, Target::Local);
        let mut cases = vec![
            self.case("fragments follow their first one, there and back", {
                let mut steps = begun.clone();
                steps.extend(self.pieces(Program::FromPod, (pod, to), (pod, backend), on));
                let replied = (Outcome::Replied, Verdict::Pass);
                steps.extend(self.pieces(Program::ToDevice, (backend, pod), (to, pod), replied));
                steps
            }),
            self.case("an answer in fragments passes the backend's device before the client's", {
                let (way, other) = ((backend, pod), (Outcome::PassedOtherHook, Verdict::Pass));
                let replied = (Outcome::Replied, Verdict::Pass);
                let passed = self.pieces(Program::FromPod, way, way, other);
                let answered = self.pieces(Program::ToDevice, way, (to, pod), replied);
                let mut steps = begun.clone();
                steps.extend(passed.into_iter().zip(answered).flat_map(|(one, two)| [one, two]));
                steps
            }),
            self.case("fragments of a packet that is complete tell nothing of the next one", {
                let held = (Outcome::QueuedFragment, Verdict::Drop);
                let mut steps = self.pieces(Program::FromPod, (pod, to), (pod, backend), on);
                let next = self.pieces(Program::FromPod, (pod, to), (pod, backend), on);
                steps.push(with_outcome(next[2].clone(), held));
                steps
            }),
            self.case("fragments of a flow to elsewhere leave together", {
                let afar = self.topology.frontend(Target::Remote);
                let there = self.topology.pod(Pod::Remote, BACKEND_PORT);
                let own = self.translated(client, Target::Remote, 0);
                let out = (Outcome::ForwardedSnat, Verdict::Redirect(self.device));
                let program = Program::FromNetwork;
                self.pieces(program, (client, afar), (own, there), out)
                    .into_iter()
                    .map(|mut step| {
                        if let Step::Becomes { becomes, .. } = &mut step {
                            frame::set_hop_limit(becomes, frame::HOP_LIMIT - 1);
                            frame::set_link_addresses(becomes);
                        }
                        step
                    })
                    .collect()
            }),
            self.case("a fragment of no flow is left alone", {
                let steps = self.pieces(
                    Program::FromPod,
                    (pod, client),
                    (pod, client),
                    (Outcome::PassedNotAService, Verdict::Pass),
                );
                let mut steps = steps.into_iter();
                let first = steps.next();
                let rest =
                    steps.map(|step| with_outcome(step, (Outcome::PassedFragment, Verdict::Pass)));
                first.into_iter().chain(rest).collect()
            }),
            self.case("fragments to a service wait for their first one, and come after it", {
                let held = (Outcome::QueuedFragment, Verdict::Drop);
                let all = self.pieces(Program::FromPod, (pod, to), (pod, backend), on);
                let early = all[1..].iter().map(|step| with_outcome(step.clone(), held));
                let mut steps = begun.clone();
                steps.extend(early);
                steps.push(all[0].clone());
                steps.push(Step::Released(2));
                steps.extend_from_slice(&all[1..]);
                steps
            }),
            self.case("too many fragments without their first one are lost", {
                let pieces = self.pieces(Program::FromPod, (pod, to), (pod, to), on);
                let (held, lost) = (
                    (Outcome::QueuedFragment, Verdict::Drop),
                    (Outcome::DroppedFragNotFound, Verdict::Drop),
                );
                let most = usize::from(FirstFragment::MAX_QUEUED);
                let mut steps = vec![with_outcome(pieces[1].clone(), held); most];
                steps.push(with_outcome(pieces[1].clone(), lost));
                steps.push(Step::IcmpLimit(0));
                let other = self.pieces(Program::FromPod, (client, to), (client, to), on);
                steps.push(with_outcome(other[1].clone(), lost));
                steps
            }),
            self.case("XDP leaves fragments to TC", {
                let left = (Outcome::PassedLeftToTc, Verdict::Pass);
                let steps = self.pieces(Program::NetworkXdp, (client, to), (client, to), left);
                steps.into_iter().collect()
            }),
        ];
        if self.topology.family == Family::V6 {
            cases.push(self.case("IPv6 extension headers are stepped over", {
                let mut steps = begun;
                for headers in [&[0u8][..], &[60], &[0, 43, 60]] {
                    let build = |from, to| {
                        let kind = Kind::Data;
                        frame::with_extension_headers(
                            &frame::frame(from, to, self.protocol, kind, &LONG),
                            headers,
                        )
                    };
                    steps.push(Step::Becomes {
                        program: Program::FromPod,
                        frame: build(pod, to),
                        outcome: Outcome::Forwarded,
                        verdict: Verdict::Pass,
                        becomes: build(pod, backend),
                    });
                }
                let endless = frame::with_extension_headers(
                    &frame::frame(pod, to, self.protocol, Kind::Data, &LONG),
                    &[60; 7],
                );
                let end = (Outcome::PassedExtensionHeader, Verdict::Pass);
                steps.push(self.odd_step(Program::FromPod, endless, end));
                steps
            }));
        }
        cases
    }

    /// The fragments of a packet, each of which leaves as one of another packet does.
    fn pieces(
        self,
        program: Program,
        (from, to): (SocketAddr, SocketAddr),
        (new_from, new_to): (SocketAddr, SocketAddr),
        (outcome, verdict): (Outcome, Verdict),
    ) -> Vec<Step> {
        let before = frame::fragments(&frame::frame(from, to, self.protocol, Kind::Data, &LONG));
        let after =
            frame::fragments(&frame::frame(new_from, new_to, self.protocol, Kind::Data, &LONG));
        let pairs = before.into_iter().zip(after);
        pairs
            .map(|(frame, becomes)| Step::Becomes { program, frame, outcome, verdict, becomes })
            .collect()
    }
}

/// The same packet coming by, but left alone or dropped.
fn with_outcome(step: Step, (outcome, verdict): (Outcome, Verdict)) -> Step {
    if let Step::Becomes { program, frame, .. } = step {
        Step::Packet { program, frame, outcome, verdict, leaves: None }
    } else {
        step
    }
}
