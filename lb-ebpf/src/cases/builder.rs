//! Builds cases and their steps, for one family and protocol.

use std::net::SocketAddr;

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use super::frame::{self, Kind};
use super::topology::{BACKEND_PORT, Pod, Target, Topology};
use super::{Case, Program, Setting, Step};
use crate::hook::Verdict;

/// Builds the cases of a family and protocol.
#[derive(Clone, Copy)]
pub(super) struct CaseBuilder {
    pub(super) topology: Topology,
    pub(super) protocol: Protocol,
    pub(super) device: u32,
}

pub(super) const CLIENT: u16 = 40_000;
pub(super) const PAYLOAD: &[u8] = b"a payload of an odd length.";

impl CaseBuilder {
    pub(super) fn case(self, sentence: &'static str, steps: Vec<Step>) -> Case {
        let Self { topology: Topology { family }, protocol, .. } = self;
        Case { sentence, family, protocol, setting: Setting::default(), steps }
    }

    pub(super) fn packet(
        self,
        program: Program,
        kind: Kind,
        (from, to): (SocketAddr, SocketAddr),
        outcome: Outcome,
        verdict: Verdict,
        leaves: Option<(SocketAddr, SocketAddr)>,
    ) -> Step {
        let frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        Step::Packet { program, frame, outcome, verdict, leaves }
    }

    /// A packet that leaves as it came.
    pub(super) fn passes(
        self,
        program: Program,
        kind: Kind,
        ends: (SocketAddr, SocketAddr),
        outcome: Outcome,
    ) -> Step {
        self.packet(program, kind, ends, outcome, Verdict::Pass, None)
    }

    /// A packet that is dropped.
    pub(super) fn drops(
        self,
        program: Program,
        kind: Kind,
        ends: (SocketAddr, SocketAddr),
        outcome: Outcome,
    ) -> Step {
        self.packet(program, kind, ends, outcome, Verdict::Drop, None)
    }

    /// A packet from `client` to a service whose backend is the pod here.
    pub(super) fn forwarded(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        target: Target,
    ) -> Step {
        let (to, backend) =
            (self.topology.frontend(target), self.topology.pod(Pod::Local, BACKEND_PORT));
        let leaves = Some((client, backend));
        self.packet(program, kind, (client, to), Outcome::Forwarded, Verdict::Pass, leaves)
    }

    /// Its answer.
    pub(super) fn replied(self, kind: Kind, client: SocketAddr, target: Target) -> Step {
        let (frontend, backend) =
            (self.topology.frontend(target), self.topology.pod(Pod::Local, BACKEND_PORT));
        let leaves = Some((frontend, client));
        let ends = (backend, client);
        self.packet(Program::ToDevice, kind, ends, Outcome::Replied, Verdict::Pass, leaves)
    }

    /// The node's own address and the source port that the `attempt`th try gives a flow.
    pub(super) fn translated(self, client: SocketAddr, target: Target, attempt: u32) -> SocketAddr {
        let to = self.topology.frontend(target);
        self.topology.node(self.topology.snat_port(client, to, self.protocol, attempt))
    }

    /// A packet from `client` to a service whose backend is the pod elsewhere.
    pub(super) fn forwarded_out(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        target: Target,
        (attempt, verdict): (u32, Verdict),
    ) -> Step {
        let source = self.translated(client, target, attempt);
        let leaves = Some((source, self.topology.pod(Pod::Remote, BACKEND_PORT)));
        let ends = (client, self.topology.frontend(target));
        self.packet(program, kind, ends, Outcome::ForwardedSnat, verdict, leaves)
    }

    /// Its answer.
    pub(super) fn replied_out(
        self,
        program: Program,
        kind: Kind,
        client: SocketAddr,
        target: Target,
        (attempt, verdict): (u32, Verdict),
    ) -> Step {
        let source = self.translated(client, target, attempt);
        let ends = (self.topology.pod(Pod::Remote, BACKEND_PORT), source);
        let leaves = Some((self.topology.frontend(target), client));
        self.packet(program, kind, ends, Outcome::RepliedSnat, verdict, leaves)
    }

    pub(super) fn resolve(self) -> Verdict {
        Verdict::RedirectNeigh(self.device)
    }

    pub(super) fn out(self) -> Verdict {
        Verdict::Redirect(self.device)
    }

    /// Steps that establish a connection from `client` to the pod here.
    pub(super) fn established(
        self,
        program: Program,
        client: SocketAddr,
        target: Target,
    ) -> Vec<Step> {
        vec![
            self.forwarded(program, Kind::Open, client, target),
            self.replied(Kind::Accept, client, target),
            self.forwarded(program, Kind::Data, client, target),
        ]
    }
}

/// No steps: the case does not exist in this family or protocol.
pub(super) const fn return_nothing() -> Vec<Step> {
    Vec::new()
}
