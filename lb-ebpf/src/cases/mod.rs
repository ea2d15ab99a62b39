//! The packet cases: what is promised of single packets, as data. They are run twice, by this
//! crate's tests over [`crate::memory`] and by the agreement tests in the kernel, and must end the
//! same, byte by byte.
//!
//! Every case happens in one place, [`lab`]: a node with a pod, another node with another, a client
//! outside. Add a case to the file
//! that is about the like, or a function of cases to [`list`].

mod flows;
pub mod frame;
pub mod lab;
pub mod list;
pub mod mutation;
mod told;
mod translated;
mod unusual;

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::connection::Place;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;

use crate::balance::{Hook, Onward};
use crate::memory::{Rows, World};

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
        let (place, class, goes_on) = match self {
            Self::FromPod => (Place::Ingress, SourceClass::Pod, true),
            Self::FromNetwork => (Place::Ingress, SourceClass::Network, true),
            Self::ToDevice => (Place::Egress, SourceClass::Host, true),
            Self::NetworkXdp => (Place::Ingress, SourceClass::Network, false),
        };
        Hook { place, class, goes_on }
    }
}

/// A case: a sentence, and the steps that prove it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it proves.
    pub sentence: &'static str,
    /// The family it is told in.
    pub family: Family,
    /// The protocol it is told in.
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
    pub source_ports: Option<u16>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet comes by.
    Packet {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// Where it goes.
        onward: Onward,
        /// Source and destination it leaves with; `None` for unchanged.
        leaves: Option<(SocketAddr, SocketAddr)>,
    },
    /// A packet comes by, and leaves with these bytes.
    Becomes {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// Where it goes.
        onward: Onward,
        /// The bytes it leaves with.
        becomes: Vec<u8>,
    },
    /// A packet comes by, and its sender is told something about it.
    Tells {
        /// The program that sees it.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// How its walk ends.
        outcome: Outcome,
        /// What its sender is told.
        told: frame::Told,
    },
    /// So many fragments that were held have come by again since the last such step.
    Released(usize),
    /// So many more senders are answered.
    Answers(u32),
    /// The agent takes the endpoint behind a backend away.
    Retire(lab::Pod),
    /// The kernel evicts the half-open entry of these packets.
    Evict(SocketAddr, SocketAddr),
}

impl Case {
    /// The case's world in memory. `device` is the network device's interface index.
    #[must_use]
    pub fn world(&self, device: u32) -> World<Rows> {
        let mut world = world_with_sockets(device);
        if let Some(count) = self.setting.source_ports {
            world.tables.source_ports.1 = count;
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
            Family::V4 => world.v4.evict(&frame::tuple(from, to, self.protocol)),
            Family::V6 => world.v6.evict(&frame::tuple(from, to, self.protocol)),
        }
    }
}

/// The lab in memory, with sockets of the node on [`lab::SOCKET_PORT`] as the pod elsewhere sees
/// them.
#[must_use]
pub fn world_with_sockets(device: u32) -> World<Rows> {
    let mut world = lab::world(device);
    for family in Family::ALL {
        let lab = lab::Lab { family };
        let own = lab.node(lab::SOCKET_PORT);
        let backend = lab.pod(lab::Pod::Elsewhere, lab::BACKEND_PORT);
        for protocol in [Protocol::TCP, Protocol::UDP] {
            match family {
                Family::V4 => world.v4.sockets.insert(frame::tuple(backend, own, protocol)),
                Family::V6 => world.v6.sockets.insert(frame::tuple(backend, own, protocol)),
            };
        }
    }
    world
}
