//! The list of all cases, and the words they are told in. Each is a function of family and protocol,
//! told once; they stand in the other files by what they are about.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::frame::{self, Kind};
use super::lab::{BACKEND_PORT, Dial, Lab, Pod};
use super::{Case, Program, Setting, Step};
use crate::balance::Onward;

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

    pub(super) fn packet(
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
    pub(super) fn replied(self, kind: Kind, client: SocketAddr, dial: Dial) -> Step {
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
    pub(super) fn replied_out(
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

    pub(super) fn resolve(self) -> Onward {
        Onward::Resolve(self.device)
    }

    pub(super) fn out(self) -> Onward {
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
}

/// No steps: the case does not exist in this family or protocol.
pub(super) const fn return_nothing() -> Vec<Step> {
    Vec::new()
}
