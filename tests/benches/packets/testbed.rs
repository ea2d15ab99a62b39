//! The benchmark's namespace, and the rows of a Service.

use anyhow::Result;
use lb_common::address::{Address, Family, Port, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::device::Device;
use lb_common::filter;
use lb_common::service::{Frontend, FrontendRow, Pool, ServiceId};
use lb_common::settings::Settings;
use lb_common::snat::TIERS;
use lb_ebpf::cases::topology::{MTU, NODE_LINK, ROUTER_LINK, address};
use weir_tests::kernel::ip;

use crate::addresses::{self, Addresses, Location, OWN_ROWS};
use crate::cases::Scale;
use crate::subject::object::Object;

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

/// Writes the rows of one Service with backends of this `location` into the maps of `object`.
pub fn write_service(
    object: &mut Object,
    (location, protocol): (Location, Protocol),
    scale: Scale,
    device: u32,
) -> Result<()> {
    let own = |family| addresses::of(family).own;
    let (v4, v6) = (address(own(Family::V4)), address(own(Family::V6)));
    let row = Device { v4, v6, flags: Device::XDP_SENDS, link: NODE_LINK };
    object.insert("DEVICES", device, row)?;
    let ports = Settings { snat_tiers: [OWN_ROWS; TIERS], ..bytemuck::Zeroable::zeroed() };
    object.set("SETTINGS", 0, ports)?;
    for slot in 0..SLOTS {
        object.set("SLOTS", slot, backend_id(slot % scale.backends()).0)?;
    }
    write_rows::<V4>(object, (location, protocol), scale)?;
    write_rows::<V6>(object, (location, protocol), scale)
}

/// Slots of the Service's pool.
const SLOTS: u32 = 1009;
const SERVICE: ServiceId = ServiceId(1);
const GENERATION: u32 = 1;

fn backend_id(host: u32) -> BackendId {
    BackendId(host + 1)
}

fn write_rows<A: Address>(
    object: &mut Object,
    (location, protocol): (Location, Protocol),
    scale: Scale,
) -> Result<()>
where
    Frontend<A>: bytemuck::Pod,
    Backend<A>: bytemuck::Pod,
{
    let family = if A::FAMILY == Family::V4 { "V4" } else { "V6" };
    let Addresses { frontend: to, false_match, .. } = addresses::of(A::FAMILY);
    let frontend: Frontend<A> = Frontend::new(address(to.ip()), Port::new(to.port()), protocol);
    let pool = Pool { base: 0, length: SLOTS };
    let row = FrontendRow { service: SERVICE, pools: [pool; 3], affinity: 0, flags: 0 };
    object.insert(&format!("FRONTENDS_{family}"), frontend, row)?;
    let bits_of = |port| filter::frontend(&frontend.address, port, protocol);
    let mut positions = vec![bits_of(frontend.port), bits_of(Port::new(false_match.port()))];
    let local = if location == Location::Local { Backend::<A>::LOCAL } else { 0 };
    for (host, at) in (0..).zip(addresses::backends(A::FAMILY, location, scale.backends())) {
        let row = Backend::<A> {
            address: address(at.ip()),
            port: Port::new(at.port()),
            protocol,
            flags: Backend::<A>::SERVING | local,
            generation: GENERATION,
            service: SERVICE,
        };
        object.set(&format!("BACKENDS_{family}"), backend_id(host).0, row)?;
        positions.push(filter::backend(&row.address, row.port, protocol));
    }
    for position in positions {
        object.set_filter_bits(position)?;
    }
    Ok(())
}

/// Lets this thread run before all ordinary ones (`SCHED_FIFO`).
pub fn go_first() -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameters, which live until it returns.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
