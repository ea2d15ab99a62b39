//! Socket calls of the node's own processes: a thousand sockets connect, and all results are listed.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use lb_common::address::{Port, Protocol, V4, V6, endpoint};
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, SourceClass};
use lb_common::settings::InSettings;
use lb_common::socket::SocketRevNat;
use lb_ebpf::in_memory::{InMemory, World};
use lb_ebpf::socket_lb::{Call, CallKind, Scratch, may_be_service, select};
use lb_ebpf::world::Tables;
use lb_userspace::maps::Contents;

/// The results of connecting to this destination, in words.
pub fn results(world: &World<Contents>, to: SocketAddr, protocol: Protocol) -> Vec<String> {
    assert!(protocol != Protocol::SCTP, "no program is attached to SCTP calls");
    let settings = world.tables.settings;
    assert!(settings.namespace != 0, "the settings of this scenario need `socket-balancing host`");
    let results: BTreeSet<String> = (0..1000)
        .map(|entropy| {
            let backend = match to {
                SocketAddr::V4(_) => call::<V4>(world, to, protocol, entropy),
                SocketAddr::V6(_) => call::<V6>(world, to, protocol, entropy),
            };
            match backend {
                Ok(backend) => format!("{} to {backend}", Outcome::SocketConnected),
                Err(outcome) => outcome.to_string(),
            }
        })
        .collect();
    results.into_iter().collect()
}

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
