//! A packet's walks at the hooks of this node, step by step, and its end.

use std::fmt;
use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, Tuple, V4, V6, endpoint};
use lb_common::conntrack::{ConntrackEntry, HookPoint};
use lb_common::filter;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::SourceClass;
use lb_ebpf::hook::{Hook, Verdict};
use lb_ebpf::trace::Traced;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::{Conntrack, Table, World};
use serde::Serialize;

use super::args::{Destination, Sender};
use super::node::NodeView;
use super::packet;
use super::service_rule::{Packet, rule};
use super::socket;
use super::steps::{Step, Steps};
use crate::host::devices::RouteTarget;
use crate::maps::Contents;

/// The first source port tried where none is given.
const ANY_PORT: u16 = 40_000;

/// The packet to explain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The packet's source.
    pub sender: Sender,
    /// Its destination.
    pub destination: Destination,
    /// The class of its sender.
    pub class: SourceClass,
    /// How the class is known.
    pub because: String,
}

/// What would happen to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trace {
    /// The packet, as `source > destination/protocol`.
    packet: String,
    /// `pod`, `network` or `host`
    from: String,
    /// The outcome that decided, and where the packet goes.
    verdict: String,
    /// The rule of a Service that decided, if one did.
    rule: Option<String>,
    /// What the question left open, and what was therefore assumed.
    assumed: Vec<String>,
    /// Its walks, one for each hook that it passes.
    walks: Vec<Walk>,
    /// Where it goes in the end.
    end: String,
}

/// A packet's walk at one hook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Walk {
    /// The hook.
    pub hook: String,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The outcome's name.
    pub outcome: &'static str,
    /// The outcome as a sentence.
    pub sentence: &'static str,
    /// The rule of a Service that decided, if one did.
    pub rule: Option<String>,
    /// The packet as it leaves the hook.
    pub leaves: String,
}

impl Trace {
    /// Walks the packet that `question` asks about through `world`.
    pub fn of<W, N>(world: &W, node: &N, contents: &Contents, question: &Question) -> Self
    where
        W: World<V4> + World<V6>,
        N: NodeView,
    {
        let Question { sender, destination, class, .. } = question;
        let to = endpoint(destination.address, destination.port);
        let protocol = destination.protocol;
        let port = sender.port.unwrap_or_else(|| free_port(world, *sender, *destination));
        let from = endpoint(sender.address, port);
        let is_new = !is_known(world, from, to, protocol);
        let mut assumed = assumptions(question, port, is_new);
        if socket::is_for(&contents.settings, *class) {
            let unseen = socket::unseen(&contents.settings, &node.control_group(), protocol);
            assumed.extend(unseen.map(str::to_owned));
        }
        let walker = Walker { world, node, contents, class: *class, protocol, is_new };
        let mut walks = Vec::new();
        let end = walker.send(from, to, &mut walks);
        let passed = |walk: &&Walk| walk.outcome.starts_with("passed-");
        let decisive = walks.iter().find(|walk| !passed(walk)).or(walks.last());
        Self {
            packet: format!("{from} > {to}/{protocol}"),
            from: class.to_string(),
            verdict: decisive.map_or_else(String::new, |walk| format!("{}: {end}", walk.outcome)),
            rule: walks.iter().find_map(|walk| walk.rule.clone()),
            assumed,
            walks,
            end,
        }
    }

    /// The long form: each step as a sentence.
    pub const fn wide(&self) -> Wide<'_> {
        Wide(self)
    }
}

fn assumptions(question: &Question, port: Port, opens: bool) -> Vec<String> {
    let Question { sender, destination, class, because } = question;
    let mut assumed = vec![format!("the sender is of class {class}: {because}")];
    if sender.port.is_none() {
        assumed.push(format!("its source port is {port}, which no flow uses"));
    }
    if destination.protocol != Protocol::UDP {
        assumed.push(if opens {
            "it opens a connection: no flow of its tuple is known".into()
        } else {
            "it belongs to the known flow of its tuple".into()
        });
    }
    assumed
}

/// A port of the sender that no flow to the destination uses.
fn free_port<W: World<V4> + World<V6>>(world: &W, sender: Sender, to: Destination) -> Port {
    let is_free = |port: &Port| {
        let from = endpoint(sender.address, *port);
        !is_known(world, from, endpoint(to.address, to.port), to.protocol)
    };
    let mut ports = (ANY_PORT..=u16::MAX).map(Port::new);
    ports.find(is_free).unwrap_or(Port::new(ANY_PORT))
}

/// Whether a flow of this tuple is known.
fn is_known<W: World<V4> + World<V6>>(
    world: &W,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> bool {
    has_entry::<V4, W>(world, from, to, protocol) || has_entry::<V6, W>(world, from, to, protocol)
}

fn has_entry<A: Address, W: Conntrack<A>>(
    world: &W,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> bool {
    let (Some(source), Some(destination)) = (A::from_ip(from.ip()), A::from_ip(to.ip())) else {
        return false;
    };
    let (from, to) = (Port::new(from.port()), Port::new(to.port()));
    let tuple = Tuple::new(source, from, destination, to, protocol);
    let tables = [Table::Established, Table::HalfOpen];
    tables.iter().any(|table| world.lookup(*table, &tuple, &mut ConntrackEntry::empty()))
}

/// Walks a packet from hook to hook.
pub struct Walker<'a, W, N> {
    /// The world to walk in.
    pub world: &'a W,
    /// The node around it.
    pub node: &'a N,
    /// The agent's rows, for the names of things.
    pub contents: &'a Contents,
    /// The class of the sender.
    pub class: SourceClass,
    /// The packet's protocol.
    pub protocol: Protocol,
    /// Whether no flow of the packet's tuple is known.
    pub is_new: bool,
}

impl<W: World<V4> + World<V6>, N: NodeView> Walker<'_, W, N> {
    /// The sender sends a packet, perhaps after a system call; returns where it goes.
    fn send(&self, from: SocketAddr, to: SocketAddr, walks: &mut Vec<Walk>) -> String {
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
        let verdict = self.walk(frame, hook, at.into(), walks);
        if verdict == Verdict::Pass { self.leave(frame, walks) } else { self.end(verdict) }
    }

    /// The kernel routes the packet: it leaves through another hook, or a local process gets it.
    fn leave(&self, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let Some((_, to)) = packet::ends(frame) else {
            return "it goes on unchanged".into();
        };
        match self.node.route(to.ip()) {
            RouteTarget::Local => format!("a process of this node gets it at {to}, if one listens"),
            RouteTarget::Unreachable => format!("the kernel drops it: no route to {}", to.ip()),
            RouteTarget::Device(device) => {
                let name = self.node.device(device);
                let (point, class) = (HookPoint::Egress, SourceClass::Host);
                let hook = Hook { point, class, can_pass_to_stack: true };
                let verdict = self.walk(frame, hook, format!("egress, {name}"), walks);
                if verdict == Verdict::Pass {
                    let ends = packet::ends(frame);
                    let ends =
                        ends.map_or_else(String::new, |(from, to)| format!(" as {from} > {to}"));
                    format!("it leaves by {name}{ends}")
                } else {
                    self.end(verdict)
                }
            }
        }
    }

    fn walk(&self, frame: &mut Vec<u8>, hook: Hook, at: String, walks: &mut Vec<Walk>) -> Verdict {
        let ends = packet::ends(frame);
        let tuple =
            ends.map_or_else(String::new, |(from, to)| format!("{from} > {to}/{}", self.protocol));
        let positions = ends.map(|(from, to)| {
            [from, to].map(|end| (self.position(end), format!("{end}/{}", self.protocol)))
        });
        let positions = positions.into_iter().flatten().collect();
        let steps = Steps::new(self.node, self.contents, hook.class, tuple, positions);
        let world = Traced { world: self.world, tracer: &steps };
        let result = walk(frame, &world, hook, &mut Scratch::new());
        let before = ends.filter(|_| hook.point == HookPoint::Ingress);
        walks.push(Walk {
            hook: at,
            steps: steps.into_steps(),
            outcome: result.outcome.name(),
            sentence: result.outcome.sentence(),
            rule: before.and_then(|(from, to)| {
                let Self { class, protocol, is_new, .. } = *self;
                let asked = Packet { from, to, protocol, class, is_new };
                rule(self.contents, &asked, result.outcome)
            }),
            leaves: self.leaves(frame, result.outcome),
        });
        result.verdict
    }

    /// The packet as it leaves a hook.
    fn leaves(&self, frame: &mut Vec<u8>, outcome: Outcome) -> String {
        match outcome.disposition() {
            Disposition::Dropped => "nothing".into(),
            Disposition::Queued => "later".into(),
            Disposition::Passed => "unchanged".into(),
            Disposition::IcmpReplied => "an ICMP message to its sender".into(),
            Disposition::Translated => packet::ends(frame)
                .map(|(from, to)| format!("{from} > {to}/{}", self.protocol))
                .unwrap_or_default(),
        }
    }

    /// The filter's position of an end.
    pub fn position(&self, end: SocketAddr) -> filter::Position {
        let (port, protocol) = (Port::new(end.port()), self.protocol);
        match end {
            SocketAddr::V4(end) => filter::position(&V4(end.ip().octets()), port, protocol),
            SocketAddr::V6(end) => filter::position(&V6(end.ip().octets()), port, protocol),
        }
    }

    fn end(&self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Pass => "it goes on to where it was going".into(),
            Verdict::Drop => "it is dropped".into(),
            Verdict::Tx => "it leaves by the device that it came in by".into(),
            Verdict::Redirect(device) => {
                format!("it leaves by {} at once, past the stack", self.node.device(device))
            }
            Verdict::RedirectNeigh(device) => format!(
                "it leaves by {} at once, past the stack; the kernel resolves the neighbour",
                self.node.device(device)
            ),
        }
    }
}

/// Verdict and rule first; then each walk with its steps in short form.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        for walk in &self.walks {
            writeln!(f, "\n{}:", walk.hook)?;
            for Step { step, result, .. } in &walk.steps {
                writeln!(f, "  {step}: {result}")?;
            }
            write!(f, "  => {}: {}", walk.outcome, walk.leaves)?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Trace {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        writeln!(f, "verdict: {}", self.verdict)?;
        let rule = self.rule.as_deref().unwrap_or("none of a Service");
        writeln!(f, "decided by: {rule}")?;
        for assumed in &self.assumed {
            writeln!(f, "given that {assumed}")?;
        }
        Ok(())
    }
}

/// A trace whose steps are sentences.
#[derive(Debug)]
pub struct Wide<'a>(&'a Trace);

impl fmt::Display for Wide<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.head(f)?;
        for walk in &self.0.walks {
            writeln!(f, "\n{}:", walk.hook)?;
            for Step { detail, .. } in &walk.steps {
                writeln!(f, "  {detail}.")?;
            }
            writeln!(f, "  => {}: {}.", walk.outcome, walk.sentence)?;
            if let Some(rule) = &walk.rule {
                writeln!(f, "     decided by: {rule}")?;
            }
            writeln!(f, "     leaves: {}", walk.leaves)?;
        }
        writeln!(f, "\nIn the end {}.", self.0.end)
    }
}
