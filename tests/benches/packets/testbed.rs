//! The benchmark's namespace and the contents of the maps: one Service of sixteen endpoints, and
//! 65,536 established flows to it, which fill the conntrack table to its last entry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use lb_common::address::{Address, Family, Port, Protocol, Tuple, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::device::Device;
use lb_common::filter;
use lb_common::service::{Frontend, FrontendRow, Pool, ServiceId};
use lb_common::settings::Settings;
use lb_ebpf::cases::topology::{self, MTU, NODE_LINK, ROUTER_LINK, address};
use weir_tests::kernel::{Programs, ip};

use crate::addresses::{self, BACKENDS, FIRST_OWN_PORT, Location, OWN_PORTS, PORT_BITS};
use crate::cases::Flows;

/// Entries of a conntrack table: two for each of 65,536 flows.
pub const CONNECTIONS: u32 = 2 * (Flows::Many.mask() + 1);
/// Entries of a table of half-open flows: what the agent gives to a conntrack table of that size.
pub const HALF_OPEN: u32 = CONNECTIONS / 4;

/// Builds the testbed in the calling thread's namespace; returns the network device.
pub fn build() -> Result<u32> {
    let text = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let (node, router) = (text(NODE_LINK), text(ROUTER_LINK));
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1")?;
    }
    ip("link set lo up")?;
    ip(&format!("link add net0 address {node} type veth peer name far0 address {router}"))?;
    ip(&format!("link set net0 mtu {MTU} up"))?;
    ip("link set far0 up")?;
    for family in Family::ALL {
        let addresses = addresses::of(family);
        let via = addresses.router;
        ip(&format!("address add dev net0 {}/{}", addresses.own, addresses.link))?;
        ip(&format!("neighbour add {via} lladdr {router} dev net0 nud permanent"))?;
        for network in addresses.outside {
            ip(&format!("route add {network} via {via}"))?;
        }
    }
    Ok(nix::net::if_::if_nametoindex("net0")?)
}

/// Loads the programs with maps as an agent would size them, and fills these with the Service and
/// its flows. Each location has programs of its own, so that every table is equally large and full.
pub fn programs(location: Location, protocol: Protocol, device: u32) -> Result<Programs> {
    let mut programs = Programs::load(|map| match map {
        "CONNTRACK_V4" | "CONNTRACK_V6" => CONNECTIONS,
        "HALF_OPEN_V4" | "HALF_OPEN_V6" => HALF_OPEN,
        "FRONTENDS_V4" | "FRONTENDS_V6" => 1 << 16,
        "SLOTS" => 1 << 18,
        "SERVICES" => 1,
        _ => 1 << 15,
    })?;
    let own = |family| addresses::of(family).own;
    let (v4, v6) = (address(own(Family::V4)), address(own(Family::V6)));
    let row =
        Device { v4, v6, flags: Device::XDP_SENDS, mtu: 1500, link: NODE_LINK, reserved: [0; 2] };
    programs.insert("DEVICES", device, row)?;
    let ports = Settings {
        first_snat_port: FIRST_OWN_PORT,
        snat_ports: OWN_PORTS,
        ..bytemuck::Zeroable::zeroed()
    };
    programs.set("SETTINGS", 0, ports)?;
    for slot in 0..SLOTS {
        programs.set("SLOTS", slot, backend_id(slot % BACKENDS).0)?;
    }
    write_rows::<V4>(&mut programs, location, protocol)?;
    write_rows::<V6>(&mut programs, location, protocol)?;
    Ok(programs)
}

/// Slots of the Service's pool.
const SLOTS: u32 = 1009;
const SERVICE: ServiceId = ServiceId(1);
const GENERATION: u32 = 1;

fn backend_id(host: u32) -> BackendId {
    BackendId(host + 1)
}

fn write_rows<A: Address>(
    programs: &mut Programs,
    location: Location,
    protocol: Protocol,
) -> Result<()>
where
    Tuple<A>: bytemuck::Pod,
    Frontend<A>: bytemuck::Pod,
    Backend<A>: bytemuck::Pod,
    ConntrackEntry<A>: bytemuck::Pod,
{
    let family = if A::FAMILY == Family::V4 { "V4" } else { "V6" };
    let to = addresses::of(A::FAMILY).frontend;
    let frontend: Frontend<A> = Frontend::new(address(to.ip()), Port::new(to.port()), protocol);
    let pool = Pool { base: 0, length: SLOTS };
    let row = FrontendRow { service: SERVICE, pools: [pool; 3], affinity: 0, flags: 0 };
    programs.insert(&format!("FRONTENDS_{family}"), frontend, row)?;
    let mut positions = vec![filter::position(&frontend.address, frontend.port, protocol)];
    let local = if location == Location::Local { Backend::<A>::LOCAL } else { 0 };
    for host in 0..BACKENDS {
        let at = addresses::backend(A::FAMILY, location, host);
        let row = Backend::<A> {
            address: address(at.ip()),
            port: Port::new(at.port()),
            protocol,
            flags: Backend::<A>::SERVING | local,
            generation: GENERATION,
            service: SERVICE,
        };
        programs.set(&format!("BACKENDS_{family}"), backend_id(host).0, row)?;
        positions.push(filter::position(&row.address, row.port, protocol));
    }
    for position in positions {
        programs.set_filter_bit(position)?;
    }
    let table = format!("CONNTRACK_{family}");
    for flow in 0..=Flows::Many.mask() {
        let (tuple, entry) = established::<A>(location, protocol, flow);
        programs.insert(&table, entry.other_key(), entry.reply_entry(&tuple))?;
        programs.insert(&table, tuple, entry)?;
    }
    Ok(())
}

/// The client's entry of an established flow: what the programs themselves would have written.
fn established<A: Address>(
    location: Location,
    protocol: Protocol,
    flow: u32,
) -> (Tuple<A>, ConntrackEntry<A>) {
    let addresses = addresses::of(A::FAMILY);
    let (port, host) = ((flow & ((1 << PORT_BITS) - 1)) as u16, flow >> PORT_BITS);
    let client = nth(addresses.client, host);
    let from = SocketAddr::new(client, addresses::FIRST_CLIENT_PORT + port);
    let tuple = topology::tuple::<A>(from, addresses.frontend, protocol);
    let (source, host, flags) = match location {
        Location::Local => (from, 0, 0),
        Location::Remote => {
            let own = SocketAddr::new(addresses.own, FIRST_OWN_PORT + port);
            (own, host, ConntrackEntry::<A>::SNAT)
        }
    };
    let backend = addresses::backend(A::FAMILY, location, host);
    let entry = ConntrackEntry {
        rewritten: topology::tuple(source, backend, protocol),
        service: SERVICE,
        backend: backend_id(host),
        generation: GENERATION,
        last_seen: Ticks(0),
        state: State::REPLIED.with(State::ESTABLISHED),
        flags,
        ..ConntrackEntry::empty()
    };
    (tuple, entry)
}

/// The `number`th address after `first`.
fn nth(first: IpAddr, number: u32) -> IpAddr {
    match first {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() + number).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() + u128::from(number)).into(),
    }
}
