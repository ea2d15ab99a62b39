//! The cases' topology, built in the kernel: devices, routes, neighbours and sockets as
//! `lb_ebpf::cases::topology` describes them, and its rows in the maps.

use std::net::{IpAddr, TcpListener, UdpSocket};

use anyhow::Result;
use lb_common::address::{Address, Family, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::Backend;
use lb_common::conntrack::table::Stored;
use lb_common::device::Device;
use lb_common::filter;
use lb_common::fragment::{FirstFragment, Fragmented};
use lb_common::maps;
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::source_range::SourceRange;
use lb_ebpf::cases::topology::{self, Pod, Topology};
use lb_ebpf::in_memory::{FamilyRows, Rows};
use lb_ebpf::world::{AcceptedLink, RateLimit, Tables};
use weir_tests::kernel::{Programs, ip};

/// The node's network device, and what keeps its ports taken.
pub struct Testbed {
    /// Interface index of the network device.
    pub device: u32,
    _sockets: Vec<Socket>,
}

enum Socket {
    Tcp { _listener: TcpListener },
    Udp { _socket: UdpSocket },
}

/// Builds the testbed in the calling thread's namespace.
pub fn build() -> Result<Testbed> {
    let link = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    let (node, router) = (link(topology::NODE_LINK), link(topology::ROUTER_LINK));
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1")?;
    }
    ip("link set lo up")?;
    ip(&format!("link add net0 address {node} type veth peer name far0 address {router}"))?;
    ip(&format!("link set net0 mtu {} up", topology::MTU))?;
    ip("link set far0 up")?;
    let mut sockets = Vec::new();
    for (family, via) in [(Family::V4, "192.0.2.2"), (Family::V6, "2001:db8:2::2")] {
        let lab = Topology { family };
        let width = if family == Family::V4 { "24" } else { "64 nodad" };
        ip(&format!("address add dev net0 {}/{width}", lab.node(0).ip()))?;
        ip(&format!("neighbour add {via} lladdr {router} dev net0 nud permanent"))?;
        for at in [lab.client(0), lab.pod(Pod::Remote, 0)] {
            ip(&format!("route add {} via {via}", at.ip()))?;
        }
        for port in lab.socket_ports() {
            let own = lab.node(port);
            sockets.push(Socket::Tcp { _listener: TcpListener::bind(own)? });
            sockets.push(Socket::Udp { _socket: UdpSocket::bind(own)? });
        }
    }
    let device = nix::net::if_::if_nametoindex("net0")?;
    Ok(Testbed { device, _sockets: sockets })
}

/// Loads the programs with maps of so many entries, where they have no fixed size, and writes `rows` into them.
pub fn load(rows: &Rows, device: u32, entries: impl Fn(&str) -> u32) -> Result<Programs> {
    let mut programs = Programs::load(entries)?;
    write_rows(&mut programs, rows, device)?;
    reset_maps(&mut programs, rows, device)?;
    Ok(programs)
}

/// Writes the rows that do not change from case to case.
pub fn write_rows(programs: &mut Programs, rows: &Rows, device: u32) -> Result<()> {
    family(programs, &rows.v4)?;
    family(programs, &rows.v6)?;
    for (slot, id) in rows.slots.iter().enumerate() {
        programs.set("SLOTS", u32::try_from(slot)?, id.0)?;
    }
    let mut words = std::collections::BTreeMap::new();
    for position in rows.v4.positions().chain(rows.v6.positions()) {
        *words.entry(position.word).or_insert(0u64) |= position.mask;
    }
    assert!(words.keys().all(|word| *word < filter::WORDS));
    for (word, bits) in words {
        programs.set("FILTER", word, bits)?;
    }
    let own = |family| Topology { family }.node(0).ip();
    let row = Device {
        v4: at(own(Family::V4)),
        v6: at(own(Family::V6)),
        flags: Device::XDP_SENDS,
        link: topology::NODE_LINK,
    };
    programs.insert("DEVICES", device, row)
}

/// Puts everything back that a case may have changed.
pub fn reset_maps(programs: &mut Programs, rows: &Rows, device: u32) -> Result<()> {
    let settings = Tables::<V4>::settings(rows);
    programs.set("SETTINGS", 0, settings)?;
    family(programs, &rows.v4)?;
    family(programs, &rows.v6)?;
    reset_maps_of::<V4>(programs)?;
    reset_maps_of::<V6>(programs)?;
    for limit in RateLimit::ALL {
        programs.allow(limit, u32::MAX)?;
    }
    programs.clear_port_hints()?;
    programs.clear_fib_cache()?;
    confirm_neighbours(programs, device)
}

/// Has the router confirmed in both families, for ever.
fn confirm_neighbours(programs: &mut Programs, device: u32) -> Result<()> {
    programs.clear::<[u32; 4], [u64; 2]>("NEIGHBOURS")?;
    let AcceptedLink { high, low, .. } = AcceptedLink::new(0, topology::ROUTER_LINK);
    for family in [0, 1] {
        programs.insert("NEIGHBOURS", [device, high, low, family], [u64::MAX; 2])?;
    }
    Ok(())
}

/// Forgets that any neighbour was confirmed.
pub fn forget_neighbours(programs: &mut Programs) -> Result<()> {
    programs.clear::<[u32; 4], [u64; 2]>("NEIGHBOURS")
}

fn reset_maps_of<A: Stored>(programs: &mut Programs) -> Result<()>
where
    Client<A>: bytemuck::Pod,
    Fragmented<A>: bytemuck::Pod,
{
    programs.clear_flows::<A>()?;
    programs.clear::<Client<A>, Affinity>(maps::AFFINITY.of(A::FAMILY).name)?;
    programs.clear::<Fragmented<A>, FirstFragment>(maps::FRAGMENTS.of(A::FAMILY).name)
}

fn family<A: Address>(programs: &mut Programs, rows: &FamilyRows<A>) -> Result<()>
where
    Frontend<A>: bytemuck::Pod,
    Backend<A>: bytemuck::Pod,
    SourceRange<A>: bytemuck::Pod,
{
    for (frontend, row) in &rows.frontends {
        programs.insert::<Frontend<A>, FrontendRow>(
            maps::FRONTENDS.of(A::FAMILY).name,
            *frontend,
            *row,
        )?;
    }
    for (id, row) in &rows.backends {
        programs.set(maps::BACKENDS.of(A::FAMILY).name, id.0, *row)?;
    }
    for (address, row) in &rows.ip_policies {
        programs.insert::<A, IpPolicy>(maps::IP_POLICY.of(A::FAMILY).name, *address, *row)?;
    }
    for range in &rows.source_ranges {
        programs.insert_source_range(maps::SRC_RANGES.of(A::FAMILY).name, range)?;
    }
    Ok(())
}

fn at<A: Address>(ip: IpAddr) -> A {
    topology::address(ip)
}
