//! What is measured: every kind of packet, at every hook that finishes it, in both families and
//! protocols, of one flow and of many.

use std::fmt;
use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use lb_ebpf::bench::shared::Spread;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::BACKEND_PORT;

use crate::addresses::{self, Addresses, Location};

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
}

/// How many flows packets are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flows {
    /// One.
    One,
    /// 65,536: 4,096 ports of 16 hosts.
    Many,
    /// No two packets are of the same.
    Endless,
}

impl Flows {
    /// The highest number of a flow.
    pub const fn mask(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Many => 0xffff,
            Self::Endless => 0x7fff_ffff,
        }
    }

    /// Bits of a flow's number that stand in a port.
    const fn low_bits(self) -> u32 {
        if matches!(self, Self::Endless) { 15 } else { addresses::PORT_BITS }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1",
            Self::Many => "64k",
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
    use Role::{Forward, New, NoService, Reply};
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
            ] {
                let flows: &[Flows] =
                    if role == New { &[Flows::Endless] } else { &[Flows::One, Flows::Many] };
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
    /// The frame of flow 0.
    pub fn frame(&self) -> Vec<u8> {
        let Addresses { client, new_client, frontend, non_service, own, .. } =
            addresses::of(self.family);
        let backend = addresses::backend(self.family, self.location, 0);
        let client = SocketAddr::new(client, addresses::FIRST_CLIENT_PORT);
        let (from, to, kind) = match (self.role, self.location) {
            (Role::Forward, _) => (client, frontend, Kind::Data),
            (Role::Reply, Location::Local) => (backend, client, Kind::Data),
            (Role::Reply, Location::Remote) => {
                (backend, SocketAddr::new(own, addresses::FIRST_OWN_PORT), Kind::Data)
            }
            (Role::New, _) => (SocketAddr::new(new_client, 1 << 15), frontend, Kind::Open),
            (Role::NoService, _) => (client, non_service, Kind::Data),
        };
        debug_assert_eq!(backend.port(), BACKEND_PORT);
        frame::frame(from, to, self.protocol, kind, &[0; addresses::PAYLOAD])
    }

    /// How other flows differ from flow 0.
    pub fn spread(&self, multiplier: u32) -> Spread {
        // Offsets of the last two bytes of both addresses, and of both ports.
        let (source, destination, ports) = match self.family {
            Family::V4 => (28, 32, 34),
            Family::V6 => (36, 52, 54),
        };
        let (low_at, high_at) = match (self.role, self.location) {
            (Role::Reply, Location::Local) => (ports + 2, destination),
            (Role::Reply, Location::Remote) => (ports + 2, source),
            (Role::Forward | Role::New | Role::NoService, _) => (ports, source),
        };
        let frame = self.frame();
        let word = |at: u16| {
            let at = usize::from(at);
            u16::from_be_bytes([frame[at], frame[at + 1]])
        };
        Spread {
            multiplier,
            mask: self.flows.mask(),
            low_bits: self.flows.low_bits(),
            low_at,
            high_at,
            low: word(low_at),
            high: word(high_at),
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
        })
    }
}
