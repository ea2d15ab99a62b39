//! What is measured: every kind of packet, at every hook that finishes it, in both families and
//! protocols, of one flow and of many.

use std::fmt;
use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::maps::Capacities;
use lb_common::outcome::Outcome;
use lb_ebpf::bench::shared::Spread;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{self, Kind};

use crate::addresses::{self, Addresses, Location};

/// Port of new flow 0 at its client.
const NEW_PORT: u16 = 1 << 15;

/// What a packet is to the programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The client's, of an established flow.
    Forward,
    /// The backend's, of an established flow.
    Reply,
    /// The first of a flow, while both tables are full.
    New,
    /// Not addressed to a Service.
    NoService,
    /// The same, but the filter has its destination's bits: they are another frontend's.
    FalseMatch,
}

/// How many flows packets are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flows {
    /// One.
    One,
    /// 65,536: 4,096 ports of 16 clients.
    Many,
    /// 1,048,576: 16,384 ports of 64 clients.
    Million,
    /// No two packets are of the same.
    Endless,
}

impl Flows {
    /// The highest number of a flow.
    pub const fn mask(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Many => 0xffff,
            Self::Million => 0xf_ffff,
            Self::Endless => 0x7fff_ffff,
        }
    }

    /// As many as are established in tables of this scale.
    pub const fn of(scale: Scale) -> Self {
        match scale {
            Scale::Full | Scale::Usual => Self::Many,
            Scale::Large => Self::Million,
        }
    }
}

/// How large the tables are, and how many flows fill them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scale {
    /// 65,536 flows, with no room for more: for new ones.
    Full,
    /// 65,536 flows, with room for as many more, so that no table evicts one.
    Usual,
    /// 1,048,576, with room for as many more.
    Large,
}

impl Scale {
    /// Flows that are established.
    pub const fn flows(self) -> u32 {
        Flows::of(self).mask() + 1
    }

    /// Clients that have them.
    pub const fn hosts(self) -> u32 {
        match self {
            Self::Full | Self::Usual => 16,
            Self::Large => 64,
        }
    }

    /// Ports of each of these clients.
    pub const fn ports(self) -> u32 {
        self.flows() / self.hosts()
    }

    /// Backends of the Service: enough that source ports towards one do not run short.
    pub const fn backends(self) -> u32 {
        match self {
            Self::Full | Self::Usual => 16,
            Self::Large => 128,
        }
    }

    /// Flows that find room.
    const fn room(self) -> u32 {
        match self {
            Self::Full => self.flows(),
            Self::Usual | Self::Large => 2 * self.flows(),
        }
    }

    /// Entries of a map: tables of flows have two for each flow, and a quarter as many for those that are
    /// not established.
    pub const fn capacities(self) -> Capacities {
        Capacities {
            services: 1,
            frontends: 1 << 16,
            slots: 1 << 18,
            backends: 1 << 15,
            conntrack: 2 * self.room(),
            half_open: self.room() / 2,
            affinity: 1 << 15,
            processors: 2,
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1",
            Self::Many => "64k",
            Self::Million => "1M",
            Self::Endless => "new",
        })
    }
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Where the backend is; without one, whose tables are used.
    pub location: Location,
    /// What the packet is.
    pub role: Role,
    /// The program it is given to.
    pub program: Program,
    /// Its family.
    pub family: Family,
    /// Its protocol.
    pub protocol: Protocol,
    /// How many flows there are.
    pub flows: Flows,
    /// How its walk must end.
    pub outcome: Outcome,
}

/// Every case.
pub fn all() -> Vec<Case> {
    use Location::{Local, Remote};
    use Outcome::{Forwarded, ForwardedSnat, PassedNotAService, Replied, RepliedSnat};
    use Program::{FromNetwork, NetworkXdp, ToDevice};
    use Role::{FalseMatch, Forward, New, NoService, Reply};
    let mut cases = Vec::new();
    for family in Family::ALL {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            for (location, role, program, outcome) in [
                (Local, Forward, FromNetwork, Forwarded),
                (Local, Reply, ToDevice, Replied),
                (Remote, Forward, FromNetwork, ForwardedSnat),
                (Remote, Reply, FromNetwork, RepliedSnat),
                (Remote, Forward, NetworkXdp, ForwardedSnat),
                (Remote, Reply, NetworkXdp, RepliedSnat),
                (Local, New, FromNetwork, Forwarded),
                (Remote, New, FromNetwork, ForwardedSnat),
                (Remote, New, NetworkXdp, ForwardedSnat),
                (Local, NoService, FromNetwork, PassedNotAService),
                (Local, NoService, ToDevice, PassedNotAService),
                (Local, NoService, NetworkXdp, PassedNotAService),
                (Local, FalseMatch, FromNetwork, PassedNotAService),
                (Local, FalseMatch, NetworkXdp, PassedNotAService),
            ] {
                let flows: &[Flows] = match role {
                    New => &[Flows::Endless],
                    Forward | Reply if program == NetworkXdp && protocol == Protocol::TCP => {
                        &[Flows::One, Flows::Many, Flows::Million]
                    }
                    Forward | Reply | NoService | FalseMatch => &[Flows::One, Flows::Many],
                };
                cases.extend(flows.iter().map(|&flows| Case {
                    location,
                    role,
                    program,
                    family,
                    protocol,
                    flows,
                    outcome,
                }));
            }
        }
    }
    cases
}

impl Case {
    /// A packet of established flows, at the hook that is nearest.
    pub const fn established(
        location: Location,
        role: Role,
        family: Family,
        protocol: Protocol,
        flows: Flows,
    ) -> Self {
        let (program, outcome) = match (location, role) {
            (Location::Local, Role::Reply) => (Program::ToDevice, Outcome::Replied),
            (Location::Local, _) => (Program::FromNetwork, Outcome::Forwarded),
            (Location::Remote, Role::Reply) => (Program::NetworkXdp, Outcome::RepliedSnat),
            (Location::Remote, _) => (Program::NetworkXdp, Outcome::ForwardedSnat),
        };
        Self { location, role, program, family, protocol, flows, outcome }
    }

    /// How many of so many packets may end otherwise: of a million flows, a few that were not established; of new
    /// flows with SNAT, a few that looked for a source port in vain; at XDP, one that is left to TC to confirm the
    /// neighbour. Of all others none.
    pub fn tolerated(&self, packets: u64) -> u64 {
        let is_new = self.role == Role::New && self.location == Location::Remote;
        let is_sent = self.program == Program::NetworkXdp && self.location == Location::Remote;
        if is_new || self.flows == Flows::Million { packets / 10_000 } else { u64::from(is_sent) }
    }

    /// The scale of its tables.
    pub const fn scale(&self) -> Scale {
        match (self.role, self.flows) {
            (Role::New, _) => Scale::Full,
            (_, Flows::Million) => Scale::Large,
            (Role::Forward | Role::Reply | Role::NoService | Role::FalseMatch, _) => Scale::Usual,
        }
    }

    /// The frame of flow 0.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_of(if self.role == Role::New { Kind::Open } else { Kind::Data })
    }

    /// The frame of flow 0 that does this to its connection.
    pub fn frame_of(&self, kind: Kind) -> Vec<u8> {
        let Addresses { client, new_client, frontend, non_service, false_match, own, .. } =
            addresses::of(self.family);
        let backend = addresses::backends(self.family, self.location, 1)[0];
        let client = SocketAddr::new(client, addresses::FIRST_CLIENT_PORT);
        let (from, to) = match (self.role, self.location) {
            (Role::Forward, _) => (client, frontend),
            (Role::Reply, Location::Local) => (backend, client),
            (Role::Reply, Location::Remote) => {
                (backend, SocketAddr::new(own, addresses::FIRST_OWN_PORT))
            }
            (Role::New, _) => (SocketAddr::new(new_client, NEW_PORT), frontend),
            (Role::NoService, _) => (client, non_service),
            (Role::FalseMatch, _) => (client, false_match),
        };
        frame::frame(from, to, self.protocol, kind, &[0; addresses::PAYLOAD])
    }

    /// How new flows differ from flow 0, and in which order flows are visited.
    pub fn spread(&self, multiplier: u32) -> Spread {
        let (high_at, destination_at) = addresses::differ_at(self.family);
        let Addresses { new_client, .. } = addresses::of(self.family);
        Spread {
            multiplier,
            mask: self.flows.mask(),
            low_bits: 15,
            low_at: destination_at + 2,
            high_at,
            low: NEW_PORT,
            high: u16::from_be_bytes(addresses::last_word(new_client)),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.role, self.location) {
            (Role::Forward, Location::Local) => "established, local backend",
            (Role::Forward, Location::Remote) => "established, remote backend",
            (Role::Reply, Location::Local) => "reply, local backend",
            (Role::Reply, Location::Remote) => "reply, remote backend",
            (Role::New, Location::Local) => "new flow, local backend",
            (Role::New, Location::Remote) => "new flow, remote backend",
            (Role::NoService, _) => "not a Service",
            (Role::FalseMatch, _) => "not a Service, but the filter matches",
        })
    }
}
