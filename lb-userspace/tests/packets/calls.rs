//! Socket calls of the node's own processes: a thousand sockets connect, and all results are listed. What is left to
//! packets is followed to where they leave the node.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6, endpoint};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::SocketRevNat;
use lb_ebpf::cases::frame::{Kind, frame};
use lb_ebpf::hook::Hook;
use lb_ebpf::in_memory::{InMemory, World};
use lb_ebpf::socket_lb::{Call, CallKind, Scratch, may_be_service, select};
use lb_ebpf::walk::{self, walk};
use lb_ebpf::world::Tables;
use lb_userspace::maps::Contents;

/// The results of connecting to this destination, in words.
pub fn results(world: &World<Contents>, to: SocketAddr, protocol: Protocol) -> Vec<String> {
    assert!(protocol != Protocol::SCTP, "no program is attached to SCTP calls");
    let settings = world.tables.settings;
    assert!(settings.namespace != 0, "the settings of this scenario need `socket-balancing host`");
    let results: BTreeSet<Result<SocketAddr, Outcome>> = (0..1000)
        .map(|entropy| match to {
            SocketAddr::V4(_) => call::<V4>(world, to, protocol, entropy),
            SocketAddr::V6(_) => call::<V6>(world, to, protocol, entropy),
        })
        .collect();
    let words = |result| match result {
        Ok(backend) => format!("{} to {backend}", Outcome::SocketConnected),
        Err(left @ Outcome::PassedLeftToTc) => {
            format!("{left}, then {}", packet(world, to, protocol))
        }
        Err(outcome) => outcome.to_string(),
    };
    results.into_iter().map(words).collect()
}

/// The outcome of a packet of this node itself, where it leaves.
fn packet(world: &World<Contents>, to: SocketAddr, protocol: Protocol) -> Outcome {
    let settings = &world.tables.settings;
    let own = match to {
        SocketAddr::V4(_) => settings.own_v4.to_ip(),
        SocketAddr::V6(_) => settings.own_v6.to_ip(),
    };
    let mut bytes = frame(endpoint(own, OWN_PORT), to, protocol, Kind::Open, b"hello");
    let hook = Hook { point: HookPoint::Egress, class: SourceClass::Host, can_pass_to_stack: true };
    world.is_own_packet.set(true);
    let walked = walk(&mut bytes, world, hook, &mut walk::Scratch::default());
    world.is_own_packet.set(false);
    walked.outcome
}

/// The port of a process's socket.
const OWN_PORT: Port = Port::new(40_000);

fn call<A: InMemory + InSettings>(
    world: &World<Contents>,
    to: SocketAddr,
    protocol: Protocol,
    entropy: u16,
) -> Result<SocketAddr, Outcome>
where
    Contents: Tables<A>,
{
    let address = A::from_ip(to.ip()).expect("an address of this family");
    let frontend = Frontend::new(address, Port::new(to.port()), protocol);
    if !may_be_service(world, &frontend) {
        return Err(Outcome::PassedNotAService);
    }
    let (mut socket, mut scratch) = (SocketRevNat::new(), Scratch::new());
    let call = Call {
        kind: CallKind::Connect,
        frontend: &frontend,
        class: SourceClass::Host,
        own_port: Port::new(0),
        entropy,
    };
    let peer = select(&mut socket, world, call, || Some(&mut scratch))?;
    Ok(endpoint(peer.backend.address.to_ip(), peer.backend.port))
}
