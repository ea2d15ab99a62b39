//! Packets through planned contents: frames made and read by etherparse, walked by the datapath.

use std::net::SocketAddr;

use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TransportHeader};
use lb_common::address::{Address, Port, Protocol, Tuple, V4, V6};
use lb_common::connection::{Place, Ticks};
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::balance::{Flows, Hook, balance};
use lb_userspace::maps::Contents;
use lb_userspace::maps::world::{MemoryConnections, Surroundings, World};

/// One packet of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sent {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
    pub class: SourceClass,
    /// TCP alone: whether it opens the connection.
    pub opens: bool,
    /// Where the walk begins.
    pub place: Place,
}

/// How its walk ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// Source and destination it left with.
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Ended {
    /// The backend's answer to a packet that was translated, at the hook that `connections` expects
    /// it at.
    pub fn answer(&self, connections: &MemoryConnections, protocol: Protocol) -> Sent {
        let place = match (self.destination, self.source) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let (from, to) = (V4(from.ip().octets()), V4(to.ip().octets()));
                connections.get(&self.answered(from, to, protocol)).map(|entry| entry.place())
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let (from, to) = (V6(from.ip().octets()), V6(to.ip().octets()));
                connections.get(&self.answered(from, to, protocol)).map(|entry| entry.place())
            }
            _ => None,
        };
        Sent {
            source: self.destination,
            destination: self.source,
            protocol,
            class: SourceClass::Network,
            opens: false,
            place: place.expect("an entry for the answers"),
        }
    }

    fn answered<A: Address>(&self, from: A, to: A, protocol: Protocol) -> Tuple<A> {
        let (from_port, to_port) = (self.destination.port(), self.source.port());
        Tuple::new(from, Port::new(from_port), to, Port::new(to_port), protocol)
    }
}

/// A node whose every route leads out of device 1.
pub fn one_way_out() -> Surroundings {
    let everywhere = ["0.0.0.0/0", "::/0"];
    Surroundings {
        now: Ticks(1000),
        routes: everywhere.map(|prefix| (prefix.parse().unwrap(), 1)).to_vec(),
    }
}

/// Walks a packet.
pub fn send(
    contents: &Contents,
    connections: &MemoryConnections,
    surroundings: &Surroundings,
    sent: &Sent,
) -> Ended {
    let world = World { contents, connections, surroundings };
    let hook = Hook { place: sent.place, class: sent.class, goes_on: true };
    let mut bytes = frame(sent);
    let walked = balance(bytes.as_mut_slice(), &world, hook, &mut Flows::new());
    let (source, destination) = addresses(&bytes);
    Ended { outcome: walked.outcome, source, destination }
}

fn frame(sent: &Sent) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
    let ip = match (sent.source, sent.destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            ethernet.ipv4(source.ip().octets(), destination.ip().octets(), 64)
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            ethernet.ipv6(source.ip().octets(), destination.ip().octets(), 64)
        }
        (source, destination) => panic!("{source} and {destination} are of two families"),
    };
    let (source, destination) = (sent.source.port(), sent.destination.port());
    let mut bytes = Vec::new();
    let written = if sent.protocol == Protocol::UDP {
        ip.udp(source, destination).write(&mut bytes, b"hello")
    } else {
        let tcp = ip.tcp(source, destination, 1, 1000);
        let tcp = if sent.opens { tcp.syn() } else { tcp.ack(1) };
        tcp.write(&mut bytes, b"hello")
    };
    written.unwrap();
    bytes
}

fn addresses(bytes: &[u8]) -> (SocketAddr, SocketAddr) {
    let headers = PacketHeaders::from_ethernet_slice(bytes).unwrap();
    let (source, destination) = match headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(TransportHeader::Udp(udp)) => (udp.source_port, udp.destination_port),
        other => panic!("neither TCP nor UDP: {other:?}"),
    };
    match headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            ((ip.source, source).into(), (ip.destination, destination).into())
        }
        Some(NetHeaders::Ipv6(ip, _)) => {
            ((ip.source, source).into(), (ip.destination, destination).into())
        }
        other => panic!("not IP: {other:?}"),
    }
}
