//! Cases of packets that are not read at a glance: fragments and IPv6 extension headers.

use std::net::SocketAddr;

use lb_common::address::Family;
use lb_common::fragment::FirstFragment;
use lb_common::outcome::Outcome;

use super::frame::{self, Kind};
use super::lab::{BACKEND_PORT, Dial, Pod};
use super::list::{CLIENT, Tell};
use super::{Case, Program, Step};
use crate::balance::Onward;

/// A payload that makes three fragments.
const LONG: [u8; 100] = [0x5a; 100];

/// Bytes of the IP payload in each fragment.
const PIECE: usize = 48;

impl Tell {
    /// Packets in pieces.
    pub(super) fn fragments(self) -> Vec<Case> {
        let (pod, client) = (self.lab.neighbour(CLIENT), self.lab.client(CLIENT));
        let to = self.lab.dial(Dial::Here);
        let backend = self.lab.pod(Pod::Here, BACKEND_PORT);
        let on = (Outcome::Forwarded, Onward::On);
        let begun = self.established(Program::FromPod, pod, Dial::Here);
        let mut cases = vec![
            self.case("fragments follow their first one, there and back", {
                let mut steps = begun.clone();
                steps.extend(self.pieces(Program::FromPod, (pod, to), (pod, backend), on));
                let replied = (Outcome::Replied, Onward::On);
                steps.extend(self.pieces(Program::ToDevice, (backend, pod), (to, pod), replied));
                steps
            }),
            self.case("a fragment of no flow is left alone", {
                let steps = self.pieces(
                    Program::FromPod,
                    (pod, client),
                    (pod, client),
                    (Outcome::NotAService, Onward::On),
                );
                let mut steps = steps.into_iter();
                let first = steps.next();
                let rest = steps.map(|step| with_outcome(step, (Outcome::Fragment, Onward::On)));
                first.into_iter().chain(rest).collect()
            }),
            self.case("fragments to a service wait for their first one, and come after it", {
                let held = (Outcome::FragmentHeld, Onward::Drop);
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
                let (held, lost) =
                    ((Outcome::FragmentHeld, Onward::Drop), (Outcome::FragmentLost, Onward::Drop));
                let most = usize::from(FirstFragment::MOST_HELD);
                let mut steps = vec![with_outcome(pieces[1].clone(), held); most];
                steps.push(with_outcome(pieces[1].clone(), lost));
                steps.push(Step::Answers(0));
                let other = self.pieces(Program::FromPod, (client, to), (client, to), on);
                steps.push(with_outcome(other[1].clone(), lost));
                steps
            }),
            self.case("XDP leaves fragments to TC", {
                let left = (Outcome::LeftToTc, Onward::On);
                let steps = self.pieces(Program::NetworkXdp, (client, to), (client, to), left);
                steps.into_iter().collect()
            }),
        ];
        if self.lab.family == Family::V6 {
            cases.push(self.case("IPv6 extension headers are stepped over", {
                let mut steps = begun;
                for headers in [&[0u8][..], &[60], &[0, 43, 60]] {
                    let build = |from, to| {
                        let kind = Kind::Data;
                        with_headers(&frame::frame(from, to, self.protocol, kind, &LONG), headers)
                    };
                    steps.push(Step::Becomes {
                        program: Program::FromPod,
                        frame: build(pod, to),
                        outcome: Outcome::Forwarded,
                        onward: Onward::On,
                        becomes: build(pod, backend),
                    });
                }
                let endless = with_headers(
                    &frame::frame(pod, to, self.protocol, Kind::Data, &LONG),
                    &[60; 7],
                );
                let end = (Outcome::ExtensionHeader, Onward::On);
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
        (outcome, onward): (Outcome, Onward),
    ) -> Vec<Step> {
        let before = cut(&frame::frame(from, to, self.protocol, Kind::Data, &LONG));
        let after = cut(&frame::frame(new_from, new_to, self.protocol, Kind::Data, &LONG));
        let pairs = before.into_iter().zip(after);
        pairs
            .map(|(frame, becomes)| Step::Becomes { program, frame, outcome, onward, becomes })
            .collect()
    }
}

/// The same packet coming by, but left alone or dropped.
fn with_outcome(step: Step, (outcome, onward): (Outcome, Onward)) -> Step {
    match step {
        Step::Becomes { program, frame, .. } => {
            Step::Packet { program, frame, outcome, onward, leaves: None }
        }
        other => other,
    }
}

/// A frame's packet in fragments (RFC 791, 3.2; RFC 8200, 4.5).
pub(super) fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
    let is_v4 = frame[14] >> 4 == 4;
    let (headers, payload) = frame.split_at(if is_v4 { 34 } else { 54 });
    let count = payload.chunks(PIECE).count();
    let piece = |(number, bytes): (usize, &[u8])| {
        let (offset, more) = (number * PIECE, number + 1 < count);
        let mut piece = headers.to_vec();
        if is_v4 {
            piece[16..18].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            piece[18..20].copy_from_slice(&[0x12, 0x34]);
            let fragment = (offset / 8) as u16 | u16::from(more) << 13;
            piece[20..22].copy_from_slice(&fragment.to_be_bytes());
            frame::set_ipv4_checksum(&mut piece);
        } else {
            piece[18..20].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut piece[20], 44);
            let fragment = offset as u16 | u16::from(more);
            piece.extend([next, 0]);
            piece.extend(fragment.to_be_bytes());
            piece.extend([0xde, 0xad, 0xbe, 0xef]);
        }
        piece.extend(bytes);
        piece
    };
    payload.chunks(PIECE).enumerate().map(piece).collect()
}

/// An IPv6 frame with these extension headers, of eight bytes each.
pub(super) fn with_headers(frame: &[u8], headers: &[u8]) -> Vec<u8> {
    let mut longer = frame.to_vec();
    for next in headers.iter().rev() {
        let after = std::mem::replace(&mut longer[20], *next);
        // Padding (RFC 8200, 4.2); to a routing header these are bytes of no meaning.
        longer.splice(54..54, [after, 0, 1, 4, 0, 0, 0, 0]);
        let length = u16::from_be_bytes([longer[18], longer[19]]) + 8;
        longer[18..20].copy_from_slice(&length.to_be_bytes());
    }
    longer
}
