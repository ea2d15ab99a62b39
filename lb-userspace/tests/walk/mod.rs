//! Walks packets through contents: frames made and read by etherparse, walked by the datapath's code.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Protocol, V4, V6};
use lb_common::conntrack::{ConntrackEntry, HookPoint};
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::SourceClass;
use lb_ebpf::cases::frame::{Kind, ends, frame};
use lb_ebpf::cases::topology::tuple;
use lb_ebpf::hook::Hook;
use lb_ebpf::in_memory::{InMemory, World};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::{Conntrack, NextHop, Table};
use lb_userspace::maps::Contents;

/// One packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Sent {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: Protocol,
    pub class: SourceClass,
    pub hook_point: HookPoint,
    /// For TCP: whether it opens the connection.
    pub opens: bool,
}

/// How its walk ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// Source and destination after the walk.
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// The node's network device, to which all routes lead.
const DEVICE: u32 = 1;
const NEXT_HOP: NextHop = NextHop { device: DEVICE, mtu: 0, link: None };

/// A node with these contents and empty conntrack tables.
pub fn node(contents: Contents) -> World<Contents> {
    let mut world = World::new(contents);
    add_routes(&mut world);
    world
}

/// Adds a route to every backend, out of the network device.
pub fn add_routes(world: &mut World<Contents>) {
    if let Some(device) = world.tables.devices.get(&DEVICE) {
        world.v4.device_addresses.insert(DEVICE, device.v4);
        world.v6.device_addresses.insert(DEVICE, device.v6);
    }
    let (v4, v6) = (world.tables.v4.backends.values(), world.tables.v6.backends.values());
    world.v4.routes.extend(v4.map(|row| (row.address, NEXT_HOP)));
    world.v6.routes.extend(v6.map(|row| (row.address, NEXT_HOP)));
}

/// Walks a packet.
pub fn send(world: &mut World<Contents>, sent: &Sent) -> Ended {
    // Replies need a route back.
    match sent.source.ip() {
        IpAddr::V4(ip) => drop(world.v4.routes.insert(V4(ip.octets()), NEXT_HOP)),
        IpAddr::V6(ip) => drop(world.v6.routes.insert(V6(ip.octets()), NEXT_HOP)),
    }
    let kind = if sent.opens { Kind::Open } else { Kind::Data };
    let mut bytes = frame(sent.source, sent.destination, sent.protocol, kind, b"hello");
    let hook = Hook { point: sent.hook_point, class: sent.class, can_pass_to_stack: true };
    let walked = walk(&mut bytes, world, hook, &mut Scratch::default());
    let (source, destination) = match walked.outcome.disposition() {
        // The ICMP message is another packet.
        Disposition::IcmpReplied => (sent.source, sent.destination),
        Disposition::Translated
        | Disposition::Passed
        | Disposition::Queued
        | Disposition::Dropped => ends(&bytes).expect("a walk leaves packets whole"),
    };
    Ended { outcome: walked.outcome, source, destination }
}

/// The reply to a translated packet, at the hook point of its conntrack entry.
pub fn reply_to(world: &World<Contents>, to: &Ended, protocol: Protocol) -> Sent {
    let (source, destination) = (to.destination, to.source);
    let hook_point = match source {
        SocketAddr::V4(_) => hook_point::<V4>(world, source, destination, protocol),
        SocketAddr::V6(_) => hook_point::<V6>(world, source, destination, protocol),
    };
    let class = SourceClass::Network;
    Sent { source, destination, protocol, class, hook_point, opens: false }
}

fn hook_point<A: InMemory>(
    world: &World<Contents>,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> HookPoint {
    conntrack_entry::<A>(world, from, to, protocol).expect("an entry for the reply").hook_point()
}

/// The conntrack entry of packets between these endpoints, established or half-open.
pub fn conntrack_entry<A: InMemory>(
    world: &World<Contents>,
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
) -> Option<ConntrackEntry<A>> {
    let mut entry = ConntrackEntry::empty();
    let tuple = tuple(from, to, protocol);
    let is_there = [Table::Established, Table::HalfOpen]
        .iter()
        .any(|table| world.lookup(*table, &tuple, &mut entry));
    is_there.then_some(entry)
}
