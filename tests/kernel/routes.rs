//! Packets that leave at once go where the kernel's rules of policy routing send a forwarded one, at XDP as at
//! TC.

use anyhow::{Context, Result, ensure};
use aya::util::KernelVersion;
use lb_common::address::{Family, Protocol};
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{Kind, frame};
use lb_ebpf::cases::topology::{self, Target, Topology};
use weir_tests::kernel::{Programs, in_own_namespace, ip};

use crate::testbed;

/// Link address of a second router.
const OTHER_ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];

#[test]
fn the_next_hop_is_that_of_a_rule_for_the_source() -> Result<()> {
    in_own_namespace(|| {
        let testbed = testbed::build()?;
        let world = topology::world_with_sockets(testbed.device);
        let mut programs = testbed::load(&world.tables, testbed.device, |_| 1024)?;
        let text = OTHER_ROUTER.map(|byte| format!("{byte:02x}")).join(":");
        for (family, via) in [(Family::V4, "192.0.2.3"), (Family::V6, "2001:db8:2::3")] {
            let (version, topology) =
                (if family == Family::V4 { "-4" } else { "-6" }, Topology { family });
            let (client, pod) =
                (topology.client(0).ip(), topology.pod(topology::Pod::Remote, 0).ip());
            ip(&format!("neighbour add {via} lladdr {text} dev net0 nud permanent"))?;
            ip(&format!("{version} route add {pod} via {via} table 100"))?;
            ip(&format!("{version} rule add from {client} lookup 100"))?;
        }
        testbed::forget_neighbours(&mut programs)?;
        for family in Family::ALL {
            let topology = Topology { family };
            let frontend = topology.frontend(Target::Remote);
            let other = topology.unroutable_client(40_000);
            for (client, router) in
                [(topology.client(40_000), OTHER_ROUTER), (other, topology::ROUTER_LINK)]
            {
                let packet = frame(client, frontend, Protocol::UDP, Kind::Open, b"packet");
                check(&mut programs, testbed.device, &packet, router)
                    .with_context(|| format!("from {client}"))?;
            }
        }
        Ok(())
    })
}

/// The first packet has the neighbour confirmed by the kernel; those after it bear its link address.
fn check(programs: &mut Programs, device: u32, packet: &[u8], router: [u8; 6]) -> Result<()> {
    programs.test_run(Program::FromNetwork, device, packet)?;
    // Older kernels do not take the device by which a frame comes to XDP.
    let by_xdp = KernelVersion::current()? >= KernelVersion::new(5, 14, 0);
    for program in [Program::FromNetwork].into_iter().chain(by_xdp.then_some(Program::NetworkXdp)) {
        let result = programs.test_run(program, device, packet)?;
        let link = result.frame.get(..6).context("a frame")?;
        ensure!(link == router, "{}: {} to {link:02x?}", program.name(), result.outcome);
    }
    Ok(())
}
