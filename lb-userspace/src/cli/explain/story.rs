//! A packet's story: every walk it takes at the hooks of this node, step by step, and its end.

mod dial;

use std::fmt;
use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, Tuple, V4, V6, endpoint};
use lb_common::connection::{Connection, Place};
use lb_common::filter;
use lb_common::outcome::Ending;
use lb_common::service::SourceClass;
use lb_ebpf::balance::{Flows, Hook, Onward, World, balance};
use lb_ebpf::tables::{Connections, Table};
use serde::Serialize;

use super::ends::{Destination, Sender};
use super::node::Around;
use super::packet;
use super::recorder::{Recorder, Step};
use super::rule::{Packet, rule};
use crate::maps::Contents;
use crate::programs::devices::Way;

/// The first source port tried where none is given.
const ANY_PORT: u16 = 40_000;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who sends the packet.
    pub sender: Sender,
    /// What it is sent to.
    pub destination: Destination,
    /// Who that is to this node.
    pub class: SourceClass,
    /// How that is known.
    pub because: String,
}

/// What would happen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Story {
    /// The packet, as `source > destination/protocol`.
    packet: String,
    /// `pod`, `network` or `host`
    from: String,
    /// What the question left open, and what was therefore assumed.
    assumed: Vec<String>,
    /// Its walks, one for each hook it passes.
    walks: Vec<Walk>,
    /// Where it goes in the end.
    end: String,
}

/// A packet's walk at one hook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Walk {
    /// The hook.
    hook: String,
    /// What it asked and was answered.
    steps: Vec<Step>,
    /// The outcome's name.
    outcome: &'static str,
    /// The outcome as a sentence.
    sentence: &'static str,
    /// The rule of a Service that decided, if one did.
    rule: Option<String>,
    /// The packet as it leaves the hook.
    leaves: String,
}

impl Story {
    /// Walks the packet that `question` asks about through `world`.
    pub fn tell<W, N>(world: &W, node: &N, contents: &Contents, question: &Question) -> Self
    where
        W: World<V4> + World<V6>,
        N: Around,
    {
        let Question { sender, destination, class, .. } = question;
        let to = endpoint(destination.address, destination.port);
        let protocol = destination.protocol;
        let port = sender.port.unwrap_or_else(|| free_port(world, *sender, *destination));
        let from = endpoint(sender.address, port);
        let opens = !is_known(world, from, to, protocol);
        let mut story = Self {
            packet: format!("{from} > {to}/{protocol}"),
            from: class.to_string(),
            assumed: assumptions(question, port, opens),
            walks: Vec::new(),
            end: String::new(),
        };
        if dial::is_for(&contents.settings, *class) {
            let unseen = dial::unseen(&contents.settings, &node.control_group(), protocol);
            story.assumed.extend(unseen.map(str::to_owned));
        }
        let teller = Teller { world, node, contents, class: *class, protocol, is_new: opens };
        story.end = teller.tell(from, to, &mut story.walks);
        story
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
            "it opens a connection, for none of its tuple is known".into()
        } else {
            "it belongs to the connection of its tuple that is known".into()
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

/// Whether a flow of this tuple is remembered.
fn is_known<W: World<V4> + World<V6>>(
    world: &W,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> bool {
    stands::<V4, W>(world, from, to, protocol) || stands::<V6, W>(world, from, to, protocol)
}

fn stands<A: Address, W: Connections<A>>(
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
    tables.iter().any(|table| world.find(*table, &tuple, &mut Connection::empty()))
}

/// What a story is told from.
struct Teller<'a, W, N> {
    world: &'a W,
    node: &'a N,
    contents: &'a Contents,
    class: SourceClass,
    protocol: Protocol,
    /// Whether no flow of the packet's tuple is remembered.
    is_new: bool,
}

impl<W: World<V4> + World<V6>, N: Around> Teller<'_, W, N> {
    /// Somebody sends a packet, which a process may have to dial for; returns where it goes.
    fn tell(&self, from: SocketAddr, to: SocketAddr, walks: &mut Vec<Walk>) -> String {
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

    /// A packet comes in; returns where it goes.
    fn arrive(&self, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let hook = Hook { place: Place::Ingress, class: self.class, goes_on: true };
        let at = match self.class {
            SourceClass::Pod => "on its way in, at the pod's device",
            SourceClass::Network => "on its way in, at the network's device",
            SourceClass::Host => "on its way in",
        };
        let onward = self.walk(frame, hook, at.into(), walks);
        if onward == Onward::On { self.leave(frame, walks) } else { self.end(onward) }
    }

    /// The routing table decides, and the packet leaves by another hook or comes to a process here.
    fn leave(&self, frame: &mut Vec<u8>, walks: &mut Vec<Walk>) -> String {
        let Some((_, to)) = packet::ends(frame) else {
            return "it goes on as it is".into();
        };
        match self.node.way(to.ip()) {
            Way::Here => format!("it comes to a process of this node at {to}, if one listens"),
            Way::None => format!("the kernel drops it: no route leads to {}", to.ip()),
            Way::Out(device) => {
                let name = self.node.device(device);
                let hook = Hook { place: Place::Egress, class: SourceClass::Host, goes_on: true };
                let at = format!("on its way out of {name}");
                let onward = self.walk(frame, hook, at, walks);
                if onward == Onward::On {
                    format!("it leaves by {name}, where the route to it leads")
                } else {
                    self.end(onward)
                }
            }
        }
    }

    fn walk(&self, frame: &mut Vec<u8>, hook: Hook, at: String, walks: &mut Vec<Walk>) -> Onward {
        let positions = packet::ends(frame).map(|(from, to)| {
            [("its source", from), ("its destination", to)]
                .map(|(name, end)| (self.position(end), format!("{name} {end}/{}", self.protocol)))
        });
        let positions = positions.into_iter().flatten().collect();
        let before = packet::ends(frame).filter(|_| hook.place == Place::Ingress);
        let recorder = Recorder::new(self.world, self.node, self.contents, hook.class, positions);
        let walked = balance(frame, &recorder, hook, &mut Flows::new());
        let leaves = match walked.outcome.ending() {
            Ending::Dropped => "not at all".into(),
            Ending::Held => "later".into(),
            Ending::Passed => "unchanged".into(),
            Ending::Answered => "as an answer to its sender".into(),
            Ending::Translated => packet::ends(frame)
                .map(|(from, to)| format!("{from} > {to}/{}", self.protocol))
                .unwrap_or_default(),
        };
        walks.push(Walk {
            hook: at,
            steps: recorder.steps(),
            outcome: walked.outcome.name(),
            sentence: walked.outcome.sentence(),
            rule: before.and_then(|(from, to)| {
                let Self { class, protocol, is_new, .. } = *self;
                let asked = Packet { from, to, protocol, class, is_new };
                rule(self.contents, &asked, walked.outcome)
            }),
            leaves,
        });
        walked.onward
    }

    fn position(&self, end: SocketAddr) -> filter::Position {
        let (port, protocol) = (Port::new(end.port()), self.protocol);
        match end {
            SocketAddr::V4(end) => filter::position(&V4(end.ip().octets()), port, protocol),
            SocketAddr::V6(end) => filter::position(&V6(end.ip().octets()), port, protocol),
        }
    }

    fn end(&self, onward: Onward) -> String {
        match onward {
            Onward::On => "it goes on to where it was going".into(),
            Onward::Drop => "it is dropped here".into(),
            Onward::Back => "it leaves by the device it came in by".into(),
            Onward::Out(device) => {
                format!("it leaves by {} at once, past the node's stack", self.node.device(device))
            }
            Onward::Resolve(device) => format!(
                "it leaves by {} at once, past the node's stack; the kernel finds the neighbour",
                self.node.device(device)
            ),
        }
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        for assumed in &self.assumed {
            writeln!(f, "  given that {assumed}")?;
        }
        for walk in &self.walks {
            writeln!(f, "\n{walk}")?;
        }
        write!(f, "\nIn the end {}.", self.end)
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.hook)?;
        for Step { asked, answer } in &self.steps {
            writeln!(f, "  {asked}\n      {answer}")?;
        }
        writeln!(f, "  => {}: {}", self.outcome, self.sentence)?;
        if let Some(rule) = &self.rule {
            writeln!(f, "     decided by: {rule}")?;
        }
        write!(f, "     leaves {}", self.leaves)
    }
}
