//! The hook that a walk starts from, and what it returns to that hook.

use lb_common::conntrack::HookPoint;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::SourceClass;

/// What a walk has to know of its hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Ingress or egress.
    pub point: HookPoint,
    /// The class of the senders whose packets come in here.
    pub class: SourceClass,
    /// Whether a translated packet can go on from here: up the stack, or out of the device. Where it
    /// cannot (XDP), packets that would have to are left for a later hook.
    pub can_pass_to_stack: bool,
}

impl Hook {
    /// Whether packets leave the node's stack here.
    #[inline(always)]
    #[must_use]
    pub const fn is_egress(self) -> bool {
        matches!(self.point, HookPoint::Egress)
    }

    /// Whether packets come in here from other hosts.
    #[inline(always)]
    #[must_use]
    pub const fn is_from_network(self) -> bool {
        matches!((self.point, self.class), (HookPoint::Ingress, SourceClass::Network))
    }
}

/// What the hook does with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Lets it go on to where it was going.
    Pass,
    /// Drops it.
    Drop,
    /// Sends it out of the device with this interface index; its link addresses are set.
    Redirect(u32),
    /// Sends it out of the device with this interface index once the kernel has resolved the
    /// neighbour; its link addresses are not set.
    RedirectNeigh(u32),
    /// Sends it out of the device it came in by, or, where it was leaving, into the stack as if it had come in there; its
    /// link addresses are set.
    Tx,
    /// Gives it to the stack as if it had come in by the device with this interface index; its link addresses are set.
    Deliver(u32),
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkResult {
    /// Its outcome, to be counted.
    pub outcome: Outcome,
    /// What the hook does with the packet.
    pub verdict: Verdict,
}

impl From<Outcome> for WalkResult {
    /// The result of a walk that translated nothing. An ICMP message goes back to the packet's sender.
    fn from(outcome: Outcome) -> Self {
        let verdict = match outcome.disposition() {
            Disposition::Passed | Disposition::Translated => Verdict::Pass,
            Disposition::IcmpReplied => Verdict::Tx,
            Disposition::Queued | Disposition::Dropped => Verdict::Drop,
        };
        Self { outcome, verdict }
    }
}
