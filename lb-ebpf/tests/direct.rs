//! Direct flows over time: one source port serves a backend itself and its Service for as long as packets
//! come, and a flow is the Service's once what it goes to is a frontend.

use std::net::SocketAddr;

use lb_common::address::{Family, Port, Protocol, V4, V6};
use lb_common::conntrack::Ticks;
use lb_common::outcome::Outcome;
use lb_common::service::Frontend;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_ebpf::cases::{PAYLOAD, Program};
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;

/// Interface index of the network device.
const DEVICE: u32 = 7;

/// A pod that sends from one port, and the two ways to one backend.
struct Client {
    world: World<Rows>,
    topology: Topology,
    protocol: Protocol,
}

impl Client {
    /// One of each family.
    fn of(protocol: Protocol) -> [Self; 2] {
        Family::ALL.map(|family| {
            let world = topology::world(DEVICE);
            Self { world, topology: Topology { family }, protocol }
        })
    }

    fn own(&self) -> SocketAddr {
        self.topology.client_pod(40_000)
    }

    fn backend(&self) -> SocketAddr {
        self.topology.pod(Pod::Local, BACKEND_PORT)
    }

    fn frontend(&self) -> SocketAddr {
        self.topology.frontend(Target::Local)
    }

    fn walk(
        &self,
        program: Program,
        kind: Kind,
        (from, to): (SocketAddr, SocketAddr),
    ) -> (Outcome, SocketAddr, SocketAddr) {
        let mut frame = frame::frame(from, to, self.protocol, kind, PAYLOAD);
        let result = walk(&mut frame, &self.world, program.hook(), &mut Scratch::new());
        let (from, to) = frame::ends(&frame).expect("a frame with both ends");
        (result.outcome, from, to)
    }

    /// Sends to `server`, and the reply back, which must seem to come from there. Returns the source that
    /// the backend saw, and the outcome of the request.
    fn asks(&self, server: SocketAddr, kind: Kind, reply: Kind) -> (SocketAddr, Outcome) {
        let (outcome, source, to) = self.walk(Program::FromPod, kind, (self.own(), server));
        assert_eq!(to, self.backend(), "{outcome}");
        let (replied, from, to) = self.walk(Program::ToDevice, reply, (to, source));
        assert_eq!((from, to), (server, self.own()), "{replied}");
        (source, outcome)
    }

    fn wait(&self, ticks: u32) {
        self.world.now.set(Ticks(self.world.now.get().0 + ticks));
    }

    fn count(&self, table: Table) -> usize {
        match self.topology.family {
            Family::V4 => self.world.v4.entries(table).len(),
            Family::V6 => self.world.v6.entries(table).len(),
        }
    }

    /// What the agent counts of backends: flows and packets.
    fn counted(&self) -> (u64, u64) {
        let traffic = match self.topology.family {
            Family::V4 => self.world.v4.traffic.borrow(),
            Family::V6 => self.world.v6.traffic.borrow(),
        };
        let sum = |of: fn(&lb_common::backend::Traffic) -> u64| traffic.values().map(of).sum();
        (sum(|one| one.connections), sum(|one| one.packets))
    }

    /// Makes the backend's own address and port a frontend of the Service.
    fn serve_at_the_backend(&mut self) {
        let (from, to) = (self.frontend(), self.backend());
        macro_rules! copy {
            ($family:ident, $address:ty) => {{
                let key = |at: SocketAddr| {
                    let address = topology::address::<$address>(at.ip());
                    Frontend::new(address, Port::new(at.port()), self.protocol)
                };
                let row = self.world.tables.$family.frontends[&key(from)];
                self.world.tables.$family.frontends.insert(key(to), row);
            }};
        }
        match self.topology.family {
            Family::V4 => copy!(v4, V4),
            Family::V6 => copy!(v6, V6),
        }
    }
}

#[test]
fn both_ways_are_established_from_one_port_and_the_second_has_another() {
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
        for direct_first in [true, false] {
            for client in Client::of(protocol) {
                let mut servers = [client.backend(), client.frontend()];
                if !direct_first {
                    servers.reverse();
                }
                let mut seen = Vec::new();
                for round in 0..6 {
                    let kinds = if round == 0 {
                        (Kind::Open, Kind::Accept)
                    } else {
                        (Kind::Data, Kind::Data)
                    };
                    seen.push(servers.map(|server| client.asks(server, kinds.0, kinds.1).0));
                    client.wait(1);
                }
                let [first, second] = seen[0];
                assert!(first == client.own() && second != first, "{seen:?}");
                assert!(seen.iter().all(|ports| *ports == seen[0]), "{seen:?}");
                assert_eq!(client.count(Table::Established), 4, "{protocol}");
                assert_eq!(client.count(Table::HalfOpen), 0, "{protocol}");
                assert_eq!(client.counted(), (1, 6), "direct flows count for no backend");
            }
        }
    }
}

#[test]
fn a_direct_flow_of_datagrams_is_the_services_once_its_destination_is_a_frontend() {
    for rounds in [1, 6] {
        for mut client in Client::of(Protocol::UDP) {
            for _ in 0..rounds {
                let (source, outcome) = client.asks(client.backend(), Kind::Data, Kind::Data);
                assert_eq!((source, outcome), (client.own(), Outcome::PassedDirect));
                client.wait(1);
            }
            client.serve_at_the_backend();
            let (source, outcome) = client.asks(client.backend(), Kind::Data, Kind::Data);
            assert_eq!((source, outcome), (client.own(), Outcome::Forwarded));
            assert_eq!(client.count(Table::Established) + client.count(Table::HalfOpen), 2);
        }
    }
}

#[test]
fn a_direct_connection_stays_direct_until_it_is_over() {
    for mut client in Client::of(Protocol::TCP) {
        client.asks(client.backend(), Kind::Open, Kind::Accept);
        client.asks(client.backend(), Kind::Data, Kind::Data);
        client.serve_at_the_backend();
        let (_, outcome) = client.asks(client.backend(), Kind::Data, Kind::Data);
        assert_eq!(outcome, Outcome::PassedDirect);
        client.asks(client.backend(), Kind::Close, Kind::Close);
        let (_, outcome) = client.asks(client.backend(), Kind::Open, Kind::Accept);
        assert_eq!(outcome, Outcome::Forwarded);
    }
}

#[test]
fn a_connection_that_is_over_gives_its_port_back() {
    for direct_first in [true, false] {
        for client in Client::of(Protocol::TCP) {
            let mut servers = [client.backend(), client.frontend()];
            if !direct_first {
                servers.reverse();
            }
            let [first, second] = servers;
            client.asks(first, Kind::Open, Kind::Accept);
            client.asks(first, Kind::Data, Kind::Data);
            client.asks(first, Kind::Close, Kind::Close);
            let (source, _) = client.asks(second, Kind::Open, Kind::Accept);
            assert_eq!(source, client.own());
            let (source, _) = client.asks(first, Kind::Open, Kind::Accept);
            assert_ne!(source, client.own());
            client.asks(second, Kind::Data, Kind::Data);
        }
    }
}
