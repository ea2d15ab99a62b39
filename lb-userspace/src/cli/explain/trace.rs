//! A packet's trace: the verdict and what decided first, what was assumed, then its walks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Address, Port, Protocol, Tuple, V4, V6, endpoint};
use lb_common::conntrack::ConntrackEntry;
use lb_common::service::{Frontend, SourceClass};
use lb_ebpf::world::{Conntrack, Table, Tables, World};
use serde::Serialize;

use super::args::{Destination, Sender};
use super::node::NodeView;
use super::socket;
use super::steps::Step;
use super::walker::{Walk, Walker};
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
    /// The device that the packet comes in by, where the route to its source tells the class.
    pub device: Option<u32>,
}

/// The trace of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trace {
    /// The packet, as `source > destination/protocol`.
    packet: String,
    /// `pod`, `network` or `host`
    from: String,
    /// The decisive outcome, or that Weir does not see the packet, and where it goes.
    verdict: String,
    /// What decided: a rule of a Service, or the packet's conntrack entry; `None` if no Service has a part.
    decided_by: Option<String>,
    /// What the question left open, and what was therefore assumed.
    assumed: Vec<String>,
    /// Its walks, one for each hook that it passes.
    walks: Vec<Walk>,
    /// Where it goes.
    end: String,
}

impl Trace {
    /// Walks the packet that `question` asks about through `world`.
    pub fn of<W, N>(world: &W, node: &N, contents: &Contents, question: &Question) -> Self
    where
        W: World<V4> + World<V6>,
        N: NodeView,
    {
        let Question { sender, destination, class, device, .. } = question;
        let to = endpoint(destination.address, destination.port);
        let protocol = destination.protocol;
        let port = sender.port.unwrap_or_else(|| free_port(world, *sender, *destination));
        let from = endpoint(sender.address, port);
        let is_new = !has_conntrack_entry(world, from, to, protocol);
        let mut assumed = assumptions(question, port, is_new);
        if socket::is_for(&contents.settings, *class) {
            let unseen = socket::unseen(&contents.settings, &node.control_group(), protocol);
            assumed.extend(unseen.map(str::to_owned));
        }
        if comes_after_sockets(contents, *destination) {
            assumed.push(format!(
                "no socket of this node listens at {to}, an address of its own: one would come first (ss -lntu)"
            ));
        }
        let walker =
            Walker { world, node, contents, class: *class, device: *device, protocol, is_new };
        let mut walks = Vec::new();
        let end = walker.send(from, to, &mut walks);
        Self {
            packet: format!("{from} > {to}/{protocol}"),
            from: class.to_string(),
            verdict: verdict(&walks, &end),
            decided_by: walks.iter().find_map(|walk| walk.decided_by.clone()),
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

/// The first walk that does more than let the packet pass decides, or else the first one, if no program sees
/// the packet there.
fn verdict(walks: &[Walk], end: &str) -> String {
    let is_seen = |walk: &&Walk| walk.unseen.is_none();
    let acts = |walk: &&Walk| is_seen(walk) && !walk.outcome.starts_with("passed-");
    let unseen = walks.first().and_then(|walk| walk.unseen.as_ref());
    match (walks.iter().find(acts), unseen) {
        (None, Some(unseen)) => format!("not seen by Weir: {}: {end}", unseen.because),
        (acts, _) => {
            let decisive = acts.or_else(|| walks.iter().rfind(is_seen));
            decisive.map_or_else(String::new, |walk| format!("{}: {end}", walk.outcome))
        }
    }
}

/// Whether a socket of this node that listens at `destination` would be served before the Service's backends.
fn comes_after_sockets(contents: &Contents, destination: Destination) -> bool {
    let Destination { address, port, protocol } = destination;
    let row = match address {
        IpAddr::V4(ip) => contents.frontend(&Frontend::new(V4(ip.octets()), port, protocol)),
        IpAddr::V6(ip) => contents.frontend(&Frontend::new(V6(ip.octets()), port, protocol)),
    };
    row.is_some_and(|row| row.serves_sockets_first())
}

fn assumptions(question: &Question, port: Port, is_new: bool) -> Vec<String> {
    let Question { sender, destination, class, because, .. } = question;
    let mut assumed = vec![format!("source class {class}: {because}")];
    if sender.port.is_none() {
        assumed.push(format!("source port {port}, which no flow uses"));
    }
    if destination.protocol != Protocol::UDP {
        assumed.push(if is_new {
            "it opens a connection: its tuple has no conntrack entry".into()
        } else {
            "it belongs to the flow of its conntrack entry".into()
        });
    }
    assumed
}

/// A port of the sender that no flow to the destination uses.
fn free_port<W: World<V4> + World<V6>>(world: &W, sender: Sender, to: Destination) -> Port {
    let is_free = |port: &Port| {
        let from = endpoint(sender.address, *port);
        !has_conntrack_entry(world, from, endpoint(to.address, to.port), to.protocol)
    };
    let mut ports = (ANY_PORT..=u16::MAX).map(Port::new);
    ports.find(is_free).unwrap_or(Port::new(ANY_PORT))
}

/// Whether this tuple has a conntrack entry.
fn has_conntrack_entry<W: World<V4> + World<V6>>(
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

/// Verdict and what decided first; then each walk with its steps in short form.
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
        let decided_by = self.decided_by.as_deref().unwrap_or("no Service");
        writeln!(f, "decided by: {decided_by}")?;
        for assumed in &self.assumed {
            writeln!(f, "assumed: {assumed}")?;
        }
        let mut unseen: Vec<_> =
            self.walks.iter().filter_map(|walk| walk.unseen.as_ref()).collect();
        unseen.dedup_by_key(|unseen| &unseen.advice);
        unseen.iter().try_for_each(|unseen| writeln!(f, "what to change: {}", unseen.advice))
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
            if let Some(decided_by) = &walk.decided_by {
                writeln!(f, "     decided by: {decided_by}")?;
            }
            writeln!(f, "     packet after: {}", walk.leaves)?;
        }
        writeln!(f, "\nResult: {}.", self.0.end)
    }
}
