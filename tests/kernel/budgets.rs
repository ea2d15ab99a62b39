//! What the programs may cost the verifier, the stack and the node's memory. Growth shows the day it
//! happens: raise a figure only with its reason in the commit.

use anyhow::{Context, Result};
use lb_ebpf::cases::Program;
use weir_tests::kernel::{Programs, alone};

/// Instructions the verifier may walk through, of the million it allows; and bytes of machine code.
const BUDGETS: [(Program, u32, u32); 4] = [
    (Program::FromPod, 75_000, 32_000),
    (Program::FromNetwork, 100_000, 32_000),
    (Program::ToDevice, 15_000, 24_000),
    (Program::NetworkXdp, 50_000, 32_000),
];

#[test]
fn programs_stay_within_their_budgets() -> Result<()> {
    alone(|| {
        let programs = Programs::load(|_| 16)?;
        for (program, instructions, bytes) in BUDGETS {
            let info = programs.info(program)?;
            let verified = info.verified_instruction_count().context("kernel before 5.16")?;
            let jitted = info.size_jitted();
            println!("{}: {verified} instructions verified, {jitted} bytes", program.name());
            assert!(verified <= instructions, "{program:?}: {verified} instructions verified");
            assert!(jitted <= bytes, "{program:?}: {jitted} bytes of machine code");
        }
        Ok(())
    })
}
