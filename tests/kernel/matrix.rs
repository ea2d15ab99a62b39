//! The matrix of source classes, as the agent's own tests walk it in memory, in the kernel. The node's
//! own processes send no packet to a frontend, and the kernel test-runs no program for their calls:
//! those are made in `end_to_end/addresses/host_processes.rs`.

use anyhow::{Context, Result};
use lb_common::service::SourceClass;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::{Program, topology};
use lb_ebpf::in_memory::World;
use weir_tests::kernel::in_own_namespace;

use crate::agreement::{Arrival, agree};
use crate::testbed;

#[path = "../../lb-userspace/tests/matrix/cells.rs"]
mod cells;

#[test]
fn every_cell_of_the_matrix_ends_in_the_kernel_as_in_memory() -> Result<()> {
    in_own_namespace(|| {
        let testbed = testbed::build()?;
        let tables = cells::rows(&cells::contents(testbed.device));
        let world = World { tables, ..topology::world(testbed.device) };
        let mut programs = testbed::load(&world.tables, testbed.device, |_| 65_536)?;
        let cells = cells::cells().into_iter().filter(|cell| cell.class != SourceClass::Host);
        for (number, cell) in (0..).zip(cells) {
            let program = match cell.class {
                SourceClass::Pod => Program::FromPod,
                SourceClass::Network | SourceClass::Host => Program::FromNetwork,
            };
            for flow in 0..cells::FLOWS {
                let (from, to) = (cell.source(number, flow), cell.destination());
                let frame = frame::frame(from, to, cell.protocol, Kind::Open, b"hello");
                agree(
                    &mut programs,
                    &world,
                    testbed.device,
                    Arrival { program, frame: &frame, segment: 0 },
                )
                .with_context(|| format!("{cell:?}, from {from}"))?;
            }
        }
        Ok(())
    })
}
