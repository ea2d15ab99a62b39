//! A packet's walks at the hooks of this node, from its sender to where it leaves.

use std::net::SocketAddr;

use lb_common::address::{V4, V6};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::SourceClass;
use lb_ebpf::hook::{Hook, Verdict, WalkResult};
use lb_ebpf::trace::Traced;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::World;

use super::node::NodeView;
use super::packet;
use super::programs::Unseen;
use super::service_rule::{Packet, rule};
use super::steps::{Step, Steps};
use super::walker::{Walk, Walker};
use crate::host::devices::RouteTarget;

impl<W: World<V4> + World<V6>, N: NodeView> Walker<'_, W, N> {
    /// The sender sends a packet, perhaps after a system call; returns where it goes.
    pub fn send(&self, from: SocketAddr, to: SocketAddr, walks: &mut Vec<Walk>) -> String {
        let to = match self.call(from, to, walks) {
            Ok(to) => to,
            Err(end) => return end,
        };
        match (packet::frame(from, to, self.protocol, self.is_new), self.class) {
            (Err(error), _) => error.to_string(),
            (Ok(mut frame), SourceClass::Host) => self.leave(&mut frame, walks),
            (Ok(mut frame), SourceClass::Pod | SourceClass::Network) => {
                self.arrive(&mut frame, walks)
            }
        }
    }

    /// A packet arrives; returns where it goes.
    fn arrive(&self, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let point = HookPoint::Ingress;
        let hook = Hook { point, class: self.class, can_pass_to_stack: true };
        let at = match self.class {
            SourceClass::Pod => "ingress, pod device",
            SourceClass::Network => "ingress, network device",
            SourceClass::Host => "ingress",
        };
        let unseen = self.device.and_then(|device| self.node.unseen(device, point));
        if let (Some(device), Some(unseen)) = (self.device, unseen) {
            walks.push(not_seen(format!("ingress, {}", self.node.device(device)), unseen));
            return self.leave(frame, walks);
        }
        let by = self.device.map(|device| format!(" {}", self.node.seen_at(device)));
        let result = self.walk(frame, hook, format!("{at}{}", by.unwrap_or_default()), walks);
        if result.verdict == Verdict::Pass { self.leave(frame, walks) } else { self.end(result) }
    }

    /// The kernel routes the packet: to the egress hook of a device, or to a local process.
    fn leave(&self, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let Some((_, to)) = packet::ends(frame) else {
            return "passed to the stack unchanged".into();
        };
        match self.node.route(to.ip()) {
            RouteTarget::Local => format!("delivered to a local process at {to}, if one listens"),
            RouteTarget::Unreachable => format!("dropped by the kernel, no route to {}", to.ip()),
            RouteTarget::Device { index: device, .. } => self.leave_by(device, frame, walks),
        }
    }

    /// A packet leaves by `device`, if its program does not keep it; returns where it goes.
    fn leave_by(&self, device: u32, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let name = self.node.device(device);
        let (point, class) = (HookPoint::Egress, SourceClass::Host);
        let at = format!("egress, {name}");
        let mut untranslated = self.replies_by(device);
        if let Some(unseen) = self.node.unseen(device, point) {
            let what = if untranslated.is_empty() {
                "it is not"
            } else {
                "neither it nor its replies are"
            };
            untranslated = format!("; {what} translated there: {}", unseen.because);
            walks.push(not_seen(at, unseen));
        } else {
            let hook = Hook { point, class, can_pass_to_stack: true };
            let result = self.walk(frame, hook, at, walks);
            if result.verdict != Verdict::Pass {
                return self.end(result);
            }
        }
        let ends = packet::ends(frame);
        let ends = ends.map_or_else(String::new, |(from, to)| format!(" as {from} > {to}"));
        format!("sent out of {name}{ends}{untranslated}")
    }

    fn walk(
        &self,
        frame: &mut Vec<u8>,
        hook: Hook,
        at: String,
        walks: &mut Vec<Walk>,
    ) -> WalkResult {
        let ends = packet::ends(frame);
        let tuple =
            ends.map_or_else(String::new, |(from, to)| format!("{from} > {to}/{}", self.protocol));
        let ends_in_filter = ends.into_iter().flat_map(|(from, to)| [from, to]);
        let positions = ends_in_filter.flat_map(|end| self.positions(end)).collect();
        let steps = Steps::new(self.node, self.contents, hook.class, tuple, positions);
        let world = Traced { world: self.world, tracer: &steps };
        let result = walk(frame, &world, hook, &mut Scratch::new());
        let outcome = result.outcome;
        let entry = steps.entry().filter(|_| outcome.disposition() != Disposition::Passed);
        // What others send is decided about where it comes in.
        let is_own =
            self.class == SourceClass::Host && outcome.disposition() != Disposition::Passed;
        let decided_by = match (entry, ends) {
            (Some(entry), _) => Some(format!("its conntrack entry ({entry})")),
            (None, Some((from, to))) if hook.point == HookPoint::Ingress || is_own => {
                let packet = Packet { from, to, protocol: self.protocol, class: self.class };
                rule(self.contents, &packet, outcome)
            }
            (None, _) => None,
        };
        walks.push(Walk {
            hook: at,
            steps: steps.into_steps(),
            outcome: outcome.name(),
            sentence: outcome.sentence(),
            decided_by,
            leaves: self.leaves(frame, outcome),
            unseen: None,
        });
        result
    }

    /// The packet after a hook.
    fn leaves(&self, frame: &mut Vec<u8>, outcome: Outcome) -> String {
        match outcome.disposition() {
            Disposition::Dropped => "nothing".into(),
            Disposition::Queued => "later".into(),
            Disposition::Passed => "unchanged".into(),
            Disposition::IcmpReplied => "an ICMP message to the sender".into(),
            Disposition::Translated => packet::ends(frame).map_or_else(
                || "a packet whose ports cannot be read".into(),
                |(from, to)| format!("{from} > {to}/{}", self.protocol),
            ),
        }
    }

    /// Where the packet goes after its last hook.
    fn end(&self, result: WalkResult) -> String {
        if result.outcome.disposition() == Disposition::IcmpReplied {
            return "an ICMP message goes back to the sender".into();
        }
        match result.verdict {
            Verdict::Pass => "passed to the stack".into(),
            Verdict::Drop => "dropped".into(),
            Verdict::Tx => "sent back out of the device it arrived on".into(),
            Verdict::Deliver(device) => {
                format!("given to the stack as if it had come in by {}", self.node.device(device))
            }
            Verdict::Redirect(device) => {
                let name = self.node.device(device);
                format!("redirected to {name}, past the stack{}", self.replies_by(device))
            }
            Verdict::RedirectNeigh(device) => format!(
                "redirected to {}, past the stack; the kernel resolves the neighbour{}",
                self.node.device(device),
                self.replies_by(device)
            ),
        }
    }

    /// That replies which come in by `device` are not translated, if no program sees them.
    fn replies_by(&self, device: u32) -> String {
        let unseen = self.node.unseen(device, HookPoint::Ingress);
        unseen.map_or_else(String::new, |unseen| {
            format!("; its replies are not translated: {}", unseen.because)
        })
    }
}

/// What is recorded of a hook where no program sees the packet.
fn not_seen(hook: String, unseen: Unseen) -> Walk {
    Walk {
        hook,
        steps: vec![Step::new("programs", "none", unseen.because.clone())],
        outcome: "not-seen",
        sentence: "no program of Weir sees the packet",
        decided_by: None,
        leaves: "unchanged".into(),
        unseen: Some(unseen),
    }
}
