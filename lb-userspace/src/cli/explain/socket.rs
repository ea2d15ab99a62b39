//! The system call of a process, before there is a packet: the programs of the cgroup replace the frontend by
//! a backend. The call that is traced is connect; sendmsg has the same outcome.

use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6, endpoint};
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::{InSettings, Settings};
use lb_common::socket::SocketRevNat;
use lb_ebpf::socket_lb::{Call, CallKind, Scratch, may_be_service, select};
use lb_ebpf::trace::Traced;
use lb_ebpf::world::World;

use super::node::{ControlGroup, NodeView};
use super::service_rule::{Packet, rule};
use super::steps::Steps;
use super::walker::{Walk, Walker};

/// Whether calls of senders of this class are expected to be balanced: those of the node's own processes
/// always, and [`unseen`] then says why they are not.
pub fn is_for(settings: &Settings, class: SourceClass) -> bool {
    match class {
        SourceClass::Host => true,
        SourceClass::Pod => settings.balances_pods_sockets(),
        SourceClass::Network => false,
    }
}

/// Why no program sees such a call; `None` if one does.
pub fn unseen(
    settings: &Settings,
    group: &ControlGroup,
    protocol: Protocol,
) -> Option<&'static str> {
    if protocol == Protocol::SCTP {
        Some("SCTP sockets are not balanced: the packets leave unchanged")
    } else if settings.namespace == 0 {
        Some(
            "sockets are not balanced: --socket-balancing off, or the network namespace is not known \
             (weir show status says why); the packets leave unchanged",
        )
    } else if *group == ControlGroup::Nowhere {
        Some(
            "no cgroup has the programs for sockets (weir show status says why): the packets leave \
             unchanged",
        )
    } else {
        None
    }
}

impl<W: World<V4> + World<V6>, N: NodeView> Walker<'_, W, N> {
    /// The process connects to `to`, if its class and state ask for that; returns the packet's destination.
    ///
    /// # Errors
    ///
    /// How the call fails.
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
        let positions = self.positions(to).to_vec();
        let tuple = format!("{from} > {to}/{}", self.protocol);
        let steps = Steps::new(self.node, self.contents, self.class, tuple, positions);
        let steps = steps.of_a_call();
        let selected = match to {
            SocketAddr::V4(end) => self.select(&steps, V4(end.ip().octets()), (from, to)),
            SocketAddr::V6(end) => self.select(&steps, V6(end.ip().octets()), (from, to)),
        };
        let outcome = selected.err().unwrap_or(Outcome::SocketConnected);
        let fails = match outcome.disposition() {
            Disposition::Translated | Disposition::Passed => None,
            Disposition::IcmpReplied => Some("ECONNREFUSED (UDP: EPERM before Linux 6.1)"),
            Disposition::Queued | Disposition::Dropped => Some("EPERM"),
        };
        let leaves = match (selected, fails) {
            (Ok(backend), _) => format!("{from} > {backend}/{}", self.protocol),
            (Err(_), None) => "unchanged".into(),
            (Err(_), Some(_)) => "nothing".into(),
        };
        walks.push(Walk {
            hook: hook(&group),
            steps: steps.into_steps(),
            outcome: outcome.name(),
            sentence: outcome.sentence(),
            decided_by: self.rule_of_call((from, to), outcome),
            leaves,
            unseen: None,
        });
        match fails {
            Some(error) => Err(format!("the call fails with {error}, nothing is sent")),
            None => Ok(selected.unwrap_or(to)),
        }
    }

    /// The backend that a call gets. Where the datapath draws a random number, this takes the source port:
    /// the same question has the same result.
    fn select<A: InSettings>(
        &self,
        steps: &Steps<'_, N>,
        address: A,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Result<SocketAddr, Outcome>
    where
        W: World<A>,
    {
        let frontend = Frontend::new(address, Port::new(to.port()), self.protocol);
        let world = Traced { world: self.world, tracer: steps };
        if !may_be_service(&world, &frontend) {
            return Err(Outcome::PassedNotAService);
        }
        let (mut socket, mut scratch) = (SocketRevNat::new(), Scratch::new());
        let (class, entropy) = (self.class, from.port());
        let call = Call {
            kind: CallKind::Connect,
            frontend: &frontend,
            class,
            own_port: Port::new(0),
            entropy,
        };
        let peer = select(&mut socket, &world, call, || Some(&mut scratch))?;
        Ok(endpoint(peer.backend.address.to_ip(), peer.backend.port))
    }

    /// A process of this node has no source address yet: the node's own counts instead.
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
        let Self { class, protocol, .. } = *self;
        rule(self.contents, &Packet { from, to, protocol, class }, outcome)
    }
}

fn hook(group: &ControlGroup) -> String {
    match group {
        ControlGroup::At(directory) => {
            format!("connect, cgroup {}", directory.display())
        }
        ControlGroup::Nowhere | ControlGroup::Unknown => "connect, cgroup".into(),
    }
}
