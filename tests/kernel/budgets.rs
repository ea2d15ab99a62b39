//! What the programs may cost the verifier, the stack and the node's memory. Growth shows the day it
//! happens: raise a figure only with its reason in the commit.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramInfo;
use aya::util::KernelVersion;
use lb_ebpf::cases::Program;
use lb_userspace::config::{TableSizes, capacities};
use lb_userspace::datapath::loader;
use lb_userspace::datapath::programs::{self as datapath, SOCKET_PROGRAMS};
use lb_userspace::host::processors;
use weir_tests::kernel::{Programs, in_own_namespace};

use crate::stack;

/// Instructions the verifier may walk through, of the million it allows; and bytes of machine code. Most are
/// the loops over quotes, extension headers, SCTP's checksum and source ports, in both families. A third of the first three
/// is the node's own packets: what leaves may begin a flow, too, and each end of a walk may go on to find a route.
const BUDGETS: [(Program, u32, u32); 4] = [
    (Program::FromPod, 380_000, 116_000),
    (Program::FromNetwork, 400_000, 118_000),
    (Program::ToDevice, 400_000, 120_000),
    (Program::NetworkXdp, 245_000, 87_000),
];

/// The same for devices without link headers.
const L3_BUDGETS: [(datapath::Program, u32, u32); 2] = [
    (datapath::Program::FromNetworkL3, 350_000, 116_000),
    (datapath::Program::ToDeviceL3, 300_000, 116_000),
];

/// The same for each of the programs for processes' sockets; `connect6` has both families in it.
const SOCKET_BUDGET: (u32, u32) = (8_000, 11_000);

/// Bytes of stack that any one function may use. A walk is at most four calls deep, and the kernel
/// allows 512 bytes for the whole chain.
const STACK: u32 = 320;

/// A node's memory, and the share of it, in thousandths, that all maps may take at their default
/// sizes: what they take empty, which for tables allocated in advance is all they ever take.
const NODE_MEMORY: u64 = 16 << 30;
const MAP_MEMORY_PER_MILLE: u64 = 12;

#[test]
fn programs_stay_within_their_budgets() -> Result<()> {
    in_own_namespace(|| {
        let mut programs = Programs::load(|_| 16)?;
        for (program, instructions, bytes) in BUDGETS {
            check(program.name(), &programs.info(program)?, instructions, bytes)?;
        }
        for (program, instructions, bytes) in BUDGETS {
            let info = programs.load_with_log(program)?;
            check(&format!("{}_log", program.name()), &info, 2 * instructions, 2 * bytes)?;
        }
        for (program, instructions, bytes) in L3_BUDGETS {
            for (name, more) in [(program.name(), 1), (program.name_with_log(), 2)] {
                check(name, &programs.load_classifier(name)?, more * instructions, more * bytes)?;
            }
        }
        for name in SOCKET_PROGRAMS {
            let (instructions, bytes) = SOCKET_BUDGET;
            check(name, &programs.load_socket_program(name)?, instructions, bytes)?;
        }
        Ok(())
    })
}

/// Budgets are those of the verifier of Linux 6.18. Older ones see less and walk through more: half as
/// much again is allowed. Before 5.16 they do not report the count.
fn check(name: &str, info: &ProgramInfo, instructions: u32, bytes: u32) -> Result<()> {
    let is_older = KernelVersion::current()? < KernelVersion::new(6, 18, 0);
    let allowed = if is_older { instructions * 3 / 2 } else { instructions };
    let jitted = info.size_jitted();
    match info.verified_instruction_count() {
        Some(verified) => {
            println!("{name}: {verified} instructions verified, {jitted} bytes");
            ensure!(verified <= allowed, "{name}: {verified} instructions verified");
        }
        None => {
            println!("{name}: {jitted} bytes");
            ensure!(KernelVersion::current()? < KernelVersion::new(5, 16, 0), "{name}: no count");
        }
    }
    // Machine code's budgets are x86_64's; that of others is longer here and there.
    let bytes = if cfg!(target_arch = "x86_64") { bytes } else { bytes * 3 / 2 };
    ensure!(jitted <= bytes, "{name}: {jitted} bytes of machine code");
    Ok(())
}

#[test]
fn functions_stay_within_their_stack() -> Result<()> {
    let depths = stack::by_function(&loader::bytes()?)?;
    assert!(depths.len() >= 4, "the object has functions: {depths:?}");
    for (function, depth) in depths {
        println!("{depth:4} {function}");
        assert!(depth <= STACK, "{function} uses {depth} bytes of stack");
    }
    Ok(())
}

/// Older kernels, 6.1 is one, allow 512 bytes for a chain of calls.
#[test]
fn the_deepest_chain_stays_within_what_older_kernels_allow() -> Result<()> {
    const ALLOWED: u32 = 512;
    let chains = stack::deepest_chains(&loader::bytes()?)?;
    let mut programs = 0;
    for (name, (bytes, chain)) in &chains {
        let is_program = BUDGETS.iter().any(|(program, ..)| name.starts_with(program.name()));
        if is_program {
            println!("{bytes:4} {}", chain.join(" > "));
            programs += 1;
            assert!(*bytes <= ALLOWED, "{bytes} bytes of stack: {}", chain.join(" > "));
        }
    }
    assert!(programs >= 2 * BUDGETS.len(), "the object has programs: {:?}", chains.keys());
    Ok(())
}

#[test]
fn maps_stay_within_their_memory() -> Result<()> {
    in_own_namespace(|| {
        let sizes = capacities(TableSizes::default(), NODE_MEMORY, processors::count()?);
        let programs = Programs::load_sized(&sizes)?;
        let mut sum = 0;
        for map in lb_common::maps::ALL {
            let bytes = memory(programs.map_fd(map.name)?.as_fd())?;
            println!("{:>12} bytes: {}", bytes, map.name);
            sum += bytes;
        }
        let allowed = NODE_MEMORY / 1000 * MAP_MEMORY_PER_MILLE;
        println!("{sum:>12} bytes of {allowed} allowed on a node of {NODE_MEMORY}");
        assert!(sum <= allowed, "{sum} bytes of maps");
        Ok(())
    })
}

#[test]
fn the_memory_that_maps_take_is_known_before_they_are_made() -> Result<()> {
    const UNPINNED: [&str; 7] = [
        "FIB_CACHE_V4",
        "FIB_CACHE_V6",
        "FIB_SCRATCH",
        "FRAG_SCRATCH",
        "LOG_SCRATCH",
        "RATE_LIMIT",
        "WALK_SCRATCH",
    ];
    in_own_namespace(|| {
        let sizes = capacities(TableSizes::default(), NODE_MEMORY, processors::count()?);
        let programs = Programs::load_sized(&sizes)?;
        let pinned = lb_common::maps::ALL.iter().chain([&lb_common::maps::UDP_CONNECTED]);
        let lru = lb_common::maps::PROGRAMS_LRU.iter().map(|(name, ..)| *name);
        let mut counted = 0;
        for name in pinned.map(|map| map.name).chain(lru).chain(UNPINNED) {
            let bytes = memory(programs.map_fd(name)?.as_fd())?;
            println!("{bytes:>12} bytes: {name}");
            counted += bytes;
        }
        let expected = sizes.memory().total;
        println!("{counted:>12} bytes, {expected} expected");
        // Linux before 6.4 counts neither buckets nor what is beside keys and values.
        let is_exact = KernelVersion::current()? >= KernelVersion::new(6, 4, 0);
        ensure!(
            !is_exact || counted.abs_diff(expected) <= expected / 100,
            "{counted}, not {expected}"
        );
        Ok(())
    })
}

/// The memory of a map, as the kernel counts it: `memlock` in its `fdinfo`.
fn memory(map: std::os::fd::BorrowedFd<'_>) -> Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.context("the kernel does not count the map's memory")?.trim().parse()?)
}
