//! The packet cases: what is promised of single packets, as data. They are run twice, by this
//! crate's tests over [`crate::in_memory`] and by the agreement tests in the kernel, and must end the
//! same, byte by byte.
//!
//! Every case happens in one [`topology`]: a node with a pod, another node with another, a client
//! outside. Add a case to the file of its subject, or a function of cases to [`all`].

mod builder;
mod flows;
pub mod frame;
mod icmp;
mod malformed;
pub mod mutation;
pub mod topology;
mod translated;

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;

use self::builder::CaseBuilder;
use self::topology::Topology;
use crate::hook::{Hook, Verdict};
use crate::in_memory::{Rows, World};

/// Every case, in both families and protocols where it makes sense. `device` is the interface index
/// of the node's network device.
#[must_use]
pub fn all(device: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let builder = CaseBuilder { topology: Topology { family }, protocol, device };
            cases.extend(builder.both());
            cases.extend(builder.rejected());
            cases.extend(builder.errors());
            match protocol {
                Protocol::TCP => cases.extend(builder.tcp().into_iter().chain(builder.echoes())),
                Protocol::UDP => cases.extend(builder.udp()),
                _ => {}
            }
            if protocol != Protocol::SCTP {
                cases.extend(builder.fragments());
            }
        }
    }
    cases
}

/// The program that a packet is given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// `from_pod`
    FromPod,
    /// `from_network`
    FromNetwork,
    /// `to_device`
    ToDevice,
    /// `network_xdp`
    NetworkXdp,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromPod, Self::FromNetwork, Self::ToDevice, Self::NetworkXdp];

    /// Its name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::FromNetwork => "from_network",
            Self::ToDevice => "to_device",
            Self::NetworkXdp => "network_xdp",
        }
    }

    /// The hook that it walks from.
    #[must_use]
    pub const fn hook(self) -> Hook {
        let (point, class, can_pass_to_stack) = match self {
            Self::FromPod => (HookPoint::Ingress, SourceClass::Pod, true),
            Self::FromNetwork => (HookPoint::Ingress, SourceClass::Network, true),
            Self::ToDevice => (HookPoint::Egress, SourceClass::Host, true),
            Self::NetworkXdp => (HookPoint::Ingress, SourceClass::Network, false),
        };
        Hook { point, class, can_pass_to_stack }
    }
}

/// A case: a sentence, and the steps that prove it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it proves.
    pub sentence: &'static str,
    /// The family it is message in.
    pub family: Family,
    /// The protocol it is message in.
    pub protocol: Protocol,
    /// What the world is like, where it differs from the usual.
    pub setting: Setting,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Where a case's world differs from the usual.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Entries the table of established connections takes; `None` for plenty.
    pub capacity: Option<u32>,
    /// How many source ports there are; `None` for plenty.
    pub snat_ports: Option<u16>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet arrives.
    Packet {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// Where it goes.
        verdict: Verdict,
        /// Source and destination it leaves with; `None` for unchanged.
        leaves: Option<(SocketAddr, SocketAddr)>,
    },
    /// A packet arrives, and leaves with these bytes.
    Becomes {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// Where it goes.
        verdict: Verdict,
        /// The bytes it leaves with.
        becomes: Vec<u8>,
    },
    /// A packet arrives, and its sender gets an ICMP error about it.
    IcmpError {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// The error.
        message: frame::IcmpMessage,
    },
    /// So many queued fragments were released since the last such step.
    Released(usize),
    /// The rate limit allows so many more ICMP messages.
    IcmpLimit(u32),
    /// The agent marks a backend as no longer serving.
    Retire(topology::Pod),
    /// The kernel evicts the half-open entry of these packets.
    Evict(SocketAddr, SocketAddr),
}

impl Case {
    /// The case's world in memory. `device` is the network device's interface index.
    #[must_use]
    pub fn world(&self, device: u32) -> World<Rows> {
        let mut world = topology::world_with_sockets(device);
        if let Some(count) = self.setting.snat_ports {
            world.tables.snat_ports.1 = count;
        }
        if let Some(capacity) = self.setting.capacity {
            world.v4.capacity.set(capacity as usize);
            world.v6.capacity.set(capacity as usize);
        }
        world
    }

    /// Removes the half-open entry of these packets from `world`.
    pub fn evict(&self, world: &World<Rows>, from: SocketAddr, to: SocketAddr) {
        match self.family {
            Family::V4 => world.v4.evict(&topology::tuple(from, to, self.protocol)),
            Family::V6 => world.v6.evict(&topology::tuple(from, to, self.protocol)),
        }
    }
}
