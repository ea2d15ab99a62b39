//! A case and its steps, as data.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::conntrack::HookPoint;
use lb_common::service::SourceClass;
use lb_common::snat::{self, TIERS};

use super::frame::IcmpMessage;
use super::topology::{self, Pod};
use crate::hook::{Hook, WalkResult};
use crate::in_memory::{Rows, World};
use crate::world::RateLimit;

/// A sentence, and the steps that prove it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case proves.
    pub sentence: &'static str,
    /// The family of its packets.
    pub family: Family,
    /// The transport protocol of its packets.
    pub protocol: Protocol,
    /// The limits of its world.
    pub setting: Setting,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The limits of a case's world.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Entries that fit into the table of established connections; `None` for all there are.
    pub conntrack_capacity: Option<u32>,
    /// Whether there are no source ports for SNAT.
    pub has_no_snat_ports: bool,
    /// The neighbours were not confirmed lately.
    pub has_stale_neighbours: bool,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet arrives.
    Packet {
        /// The program that it arrives at.
        program: Program,
        /// Its bytes.
        frame: Vec<u8>,
        /// Bytes of transport payload in each of the packets that the kernel is to cut it into; 0 if it
        /// is not to be cut.
        segment: u32,
        /// How its walk ends.
        result: WalkResult,
        /// What the walk makes of its bytes.
        output: Output,
    },
    /// The kernel has released so many queued fragments since the last such step.
    Released(usize),
    /// From now on the rate limit allows so many times more.
    Allow(RateLimit, u32),
    /// The agent marks a backend as no longer serving.
    Retire(Pod),
    /// The kernel evicts the half-open entry of packets from the first address to the second.
    Evict(SocketAddr, SocketAddr),
}

/// What a walk makes of a packet's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// The same bytes.
    Unchanged,
    /// A packet with this source and destination and right checksums.
    Rewritten(SocketAddr, SocketAddr),
    /// These bytes.
    Bytes(Vec<u8>),
    /// This ICMP error, which quotes the packet.
    IcmpError(IcmpMessage),
}

/// The program that a packet arrives at.
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

impl Case {
    /// The case's world in memory. `device` is the interface index of the node's network device.
    #[must_use]
    pub fn world(&self, device: u32) -> World<Rows> {
        let mut world = topology::world_with_sockets(device);
        if self.setting.has_no_snat_ports {
            world.tables.snat_tiers = [snat::Rows::default(); TIERS];
        }
        if self.setting.has_stale_neighbours {
            world.v4.confirmed.borrow_mut().clear();
            world.v6.confirmed.borrow_mut().clear();
        }
        if let Some(capacity) = self.setting.conntrack_capacity {
            world.v4.capacity.set(capacity as usize);
            world.v6.capacity.set(capacity as usize);
        }
        world
    }

    /// Removes the half-open entry of packets from `from` to `to` from `world`.
    pub fn evict(&self, world: &World<Rows>, from: SocketAddr, to: SocketAddr) {
        match self.family {
            Family::V4 => world.v4.evict(&topology::tuple(from, to, self.protocol)),
            Family::V6 => world.v6.evict(&topology::tuple(from, to, self.protocol)),
        }
    }
}
