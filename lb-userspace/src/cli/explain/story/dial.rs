//! A process's call, before there is a packet: the programs on the control group put a backend in the
//! place of the frontend that it dials. A call to connect is told; sendmsg ends alike.

use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6, endpoint};
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::{InSettings, Settings};
use lb_common::socket::Socket;
use lb_ebpf::balance::World;
use lb_ebpf::socket::{Call, Dial, Room, concerns, dial};

use super::{Teller, Walk};
use crate::cli::explain::node::{Around, ControlGroup};
use crate::cli::explain::recorder::Recorder;
use crate::cli::explain::rule::{Packet, rule};

/// Whether one may expect what senders of this class dial to be balanced: of the node's own processes
/// always, and [`unseen`] then says why it is not.
pub fn is_for(settings: &Settings, class: SourceClass) -> bool {
    match class {
        SourceClass::Host => true,
        SourceClass::Pod => settings.balances_pods_sockets(),
        SourceClass::Network => false,
    }
}

/// Why no program sees such a call nevertheless; `None` if one does.
pub fn unseen(
    settings: &Settings,
    group: &ControlGroup,
    protocol: Protocol,
) -> Option<&'static str> {
    if protocol == Protocol::SCTP {
        Some("sockets of SCTP are not balanced: its packets go out as they are")
    } else if settings.namespace == 0 {
        Some(
            "sockets are not balanced, for weir runs with --socket-balancing off or could not tell \
             whose they are (weir show status says why): its packets go out as they are",
        )
    } else if *group == ControlGroup::Nowhere {
        Some(
            "the programs for sockets are on no control group (weir show status says why): its packets \
             go out as they are",
        )
    } else {
        None
    }
}

impl<W: World<V4> + World<V6>, N: Around> Teller<'_, W, N> {
    /// A process dials `to`, if that is what the packet begins with; returns where the packet is
    /// then sent, or how the call fails.
    pub fn call(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        walks: &mut Vec<Walk>,
    ) -> Result<SocketAddr, String> {
        let settings = &self.contents.settings;
        let group = self.node.control_group();
        let is_seen = unseen(settings, &group, self.protocol).is_none();
        if !(self.is_new && is_seen && is_for(settings, self.class)) {
            return Ok(to);
        }
        let positions =
            vec![(self.position(to), format!("what is dialled, {to}/{},", self.protocol))];
        let recorder = Recorder::new(self.world, self.node, self.contents, self.class, positions);
        let recorder = recorder.of_a_call();
        let dialled = match to {
            SocketAddr::V4(end) => self.dial(&recorder, V4(end.ip().octets()), (from, to)),
            SocketAddr::V6(end) => self.dial(&recorder, V6(end.ip().octets()), (from, to)),
        };
        let outcome = dialled.err().unwrap_or(Outcome::ForwardedSocket);
        let fails = match outcome.ending() {
            Ending::Translated | Ending::Passed => None,
            Ending::Answered => Some("ECONNREFUSED (EPERM before Linux 6.1)"),
            Ending::Held | Ending::Dropped => Some("EPERM"),
        };
        let leaves = match (dialled, fails) {
            (Ok(backend), _) => format!("{from} > {backend}/{}", self.protocol),
            (Err(_), None) => "unchanged".into(),
            (Err(_), Some(_)) => "not at all".into(),
        };
        walks.push(Walk {
            hook: hook(&group),
            steps: recorder.steps(),
            outcome: outcome.name(),
            sentence: outcome.sentence(),
            rule: self.rule_of_call((from, to), outcome),
            leaves,
        });
        match fails {
            Some(error) => Err(format!("the call fails with {error}, and nothing is sent")),
            None => Ok(dialled.unwrap_or(to)),
        }
    }

    /// The backend that a call gets. Where the datapath draws a number, the source port stands for it:
    /// a story told twice is the same.
    fn dial<A: InSettings>(
        &self,
        world: &Recorder<'_, W, N>,
        address: A,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Result<SocketAddr, Outcome>
    where
        W: World<A>,
    {
        let frontend = Frontend::new(address, Port::new(to.port()), self.protocol);
        if !concerns(world, &frontend) {
            return Err(Outcome::NotAService);
        }
        let (mut socket, mut room) = (Socket::new(), Room::new());
        let (class, entropy) = (self.class, from.port());
        let call = Call { dial: Dial::Connect, frontend: &frontend, class, entropy };
        let peer = dial(&mut socket, world, call, || Some(&mut room))?;
        Ok(endpoint(peer.backend.address.to_ip(), peer.backend.port))
    }

    /// A process of this node has no source address yet: the node's own stands for it.
    fn rule_of_call(
        &self,
        (from, to): (SocketAddr, SocketAddr),
        outcome: Outcome,
    ) -> Option<String> {
        let own = |from: SocketAddr| match from {
            SocketAddr::V4(_) => V4::own(&self.contents.settings).to_ip(),
            SocketAddr::V6(_) => V6::own(&self.contents.settings).to_ip(),
        };
        let from = match self.class {
            SourceClass::Host => SocketAddr::new(own(from), from.port()),
            SourceClass::Pod | SourceClass::Network => from,
        };
        let Self { class, protocol, is_new, .. } = *self;
        rule(self.contents, &Packet { from, to, protocol, class, is_new }, outcome)
    }
}

fn hook(group: &ControlGroup) -> String {
    match group {
        ControlGroup::At(directory) => {
            format!("as its process calls connect, on the control group {}", directory.display())
        }
        ControlGroup::Nowhere | ControlGroup::Unknown => {
            "as its process calls connect, on the control group".into()
        }
    }
}
