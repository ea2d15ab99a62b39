//! The beginning of each step's sentence, where something arrives and who sent it, and the ends that
//! need not know what arrived.

use std::net::SocketAddr;

use lb_common::outcome::Outcome;

use super::case_builder::{CaseBuilder, Steps};
use crate::cases::case::{Output, Program, Step};
use crate::cases::frame;
use crate::hook::{Verdict, WalkResult};

/// A sender, and the program at which its packets arrive.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(super) builder: CaseBuilder,
    pub(super) program: Program,
    pub(super) from: SocketAddr,
}

impl CaseBuilder {
    /// `sender`, whose packets arrive at the TC program of a pod's device.
    pub(crate) fn from_pod(self, sender: SocketAddr) -> Sender {
        self.at(Program::FromPod, sender)
    }

    /// `sender`, whose packets arrive at the TC program of the network device.
    pub(crate) fn from_network(self, sender: SocketAddr) -> Sender {
        self.at(Program::FromNetwork, sender)
    }

    /// `sender`, whose packets arrive at the XDP program of the network device.
    pub(crate) fn network_xdp(self, sender: SocketAddr) -> Sender {
        self.at(Program::NetworkXdp, sender)
    }

    /// `sender`, whose packets arrive at the TC program through which they leave by a device.
    pub(crate) fn to_device(self, sender: SocketAddr) -> Sender {
        self.at(Program::ToDevice, sender)
    }

    /// `from`, whose packets arrive at `program`.
    pub(crate) fn at(self, program: Program, from: SocketAddr) -> Sender {
        Sender { builder: self, program, from }
    }

    /// Bytes that arrive at `program`.
    pub(crate) fn bytes_at(self, program: Program, frame: Vec<u8>) -> Arrival<Vec<u8>> {
        Arrival { builder: self, program, content: frame }
    }

    /// The frame leaves by the network device.
    pub(crate) fn redirect(self) -> Verdict {
        Verdict::Redirect(self.device)
    }

    /// The frame leaves by the network device once the kernel has resolved the next hop's link
    /// address.
    pub(crate) fn redirect_neigh(self) -> Verdict {
        Verdict::RedirectNeigh(self.device)
    }
}

/// What arrives at a program.
pub(crate) trait Content {
    /// Its bytes.
    fn frame(&self, builder: CaseBuilder) -> Vec<u8>;

    /// Bytes of transport payload in each of the packets that it is to be cut into; 0 for one that is not.
    fn segment(&self) -> u32 {
        0
    }
}

impl Content for Vec<u8> {
    fn frame(&self, _: CaseBuilder) -> Vec<u8> {
        self.clone()
    }
}

/// Something that arrives at a program; what becomes of it completes the step.
pub(crate) struct Arrival<C> {
    pub(super) builder: CaseBuilder,
    pub(super) program: Program,
    pub(super) content: C,
}

impl<C: Content> Arrival<C> {
    /// It passes unchanged.
    pub(crate) fn passes(self, outcome: Outcome) -> Steps {
        self.ends(outcome, Verdict::Pass, Output::Unchanged)
    }

    /// It is dropped.
    pub(crate) fn is_dropped(self, outcome: Outcome) -> Steps {
        self.ends(outcome, Verdict::Drop, Output::Unchanged)
    }

    /// It waits for its packet's first fragment.
    pub(crate) fn is_queued(self) -> Steps {
        self.is_dropped(Outcome::QueuedFragment)
    }

    pub(super) fn ends(self, outcome: Outcome, verdict: Verdict, output: Output) -> Steps {
        let Self { builder, program, content } = self;
        let result = WalkResult { outcome, verdict };
        let (frame, segment) = (content.frame(builder), content.segment());
        vec![Step::Packet { program, frame, segment, result, output }]
    }
}

/// The frame as it leaves if the walk routes it itself: one hop less, and link addresses unless the
/// kernel is to set them.
pub(super) fn routed(mut frame: Vec<u8>, verdict: Verdict) -> Vec<u8> {
    match verdict {
        Verdict::Pass | Verdict::Drop | Verdict::Tx | Verdict::Deliver(_) => {}
        Verdict::RedirectNeigh(_) => frame::set_hop_limit(&mut frame, frame::HOP_LIMIT - 1),
        Verdict::Redirect(_) => {
            frame::set_hop_limit(&mut frame, frame::HOP_LIMIT - 1);
            frame::set_link_addresses(&mut frame);
        }
    }
    frame
}
