//! The host and the kernel run the same program: every packet case ends in the kernel as it does in
//! memory, with the same outcome and the same bytes, and so does every packet of the fuzzer.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::util::KernelVersion;
use lb_common::address::{Family, Tuple, V4, V6};
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{Removed, Stored};
use lb_common::outcome::Disposition;
use lb_ebpf::cases::{self, Case, Program, Step, mutation, topology};
use lb_ebpf::hook::{Verdict, WalkResult};
use lb_ebpf::in_memory::{Rows, Segmented, World};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::Table;
use lb_userspace::maps::conntrack_gc::now;
use weir_tests::kernel::{Programs, TestRunResult, in_own_namespace};

use crate::testbed;

/// For how long the kernel's tables change by packets alone: less than anything's time in them.
const UNCHANGED: Duration = Duration::from_secs(5);

/// Entries of the table that a case needs to find full: one bucket, which is filled before.
const CROWDED: u32 = 1;

#[test]
fn every_case_ends_in_the_kernel_as_in_memory() -> Result<()> {
    in_own_namespace(|| {
        let testbed = testbed::build()?;
        let mut ordinary = Programs::load(|_| 1024)?;
        let mut crowded =
            Programs::load(|map| if map.starts_with("CONNTRACK") { CROWDED } else { 1024 })?;
        for case in cases::all(testbed.device) {
            let programs = if case.setting.conntrack_capacity.is_some() {
                &mut crowded
            } else {
                &mut ordinary
            };
            run(programs, &case, testbed.device).with_context(|| {
                format!("{} ({}, {})", case.sentence, case.family, case.protocol)
            })?;
        }
        Ok(())
    })
}

fn run(programs: &mut Programs, case: &Case, device: u32) -> Result<()> {
    let mut world = case.world(device);
    testbed::write_rows(programs, &world.tables, device)?;
    testbed::reset_maps(programs, &world.tables, device)?;
    if case.setting.conntrack_capacity.is_some() {
        programs.fill_flows::<V4>(&ConntrackEntry::empty())?;
        programs.fill_flows::<V6>(&ConntrackEntry::empty())?;
    }
    if case.setting.has_stale_neighbours {
        testbed::forget_neighbours(programs)?;
    }
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Packet { program, frame, segment, .. } => {
                let arrival = Arrival { program: *program, frame, segment: *segment };
                agree(programs, &world, device, arrival)
                    .with_context(|| format!("step {number}"))?;
            }
            // The kernel's go to the device, at which nothing is attached here.
            Step::Released(_) => {}
            Step::Allow(limit, times) => {
                world.allowed.borrow_mut().insert(*limit, *times);
                programs.allow(*limit, *times)?;
            }
            Step::Retire(pod) => {
                world.tables.retire(*pod as u32);
                testbed::write_rows(programs, &world.tables, device)?;
            }
            Step::Evict(from, to) => {
                case.evict(&world, *from, *to);
                match case.family {
                    Family::V4 => {
                        evict::<V4>(programs, topology::tuple(*from, *to, case.protocol))?
                    }
                    Family::V6 => {
                        evict::<V6>(programs, topology::tuple(*from, *to, case.protocol))?
                    }
                }
            }
        }
    }
    Ok(())
}

fn evict<A: Stored>(programs: &Programs, tuple: Tuple<A>) -> Result<()> {
    let flows = programs.flows(Table::HalfOpen)?;
    let entry = flows.find(&tuple, now()).context("there is no such entry")?;
    let removed = flows.remove(&tuple, now(), &entry);
    ensure!(removed == Removed::Now, "it has changed meanwhile");
    Ok(())
}

/// A frame that arrives at a program.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The program.
    pub program: Program,
    /// Its bytes.
    pub frame: &'a [u8],
    /// Bytes of payload in each of the packets that it is to be cut into; 0 if it is not to be cut.
    pub segment: u32,
}

/// Walks a frame in memory and in the kernel, and compares.
pub fn agree(
    programs: &mut Programs,
    world: &World<Rows>,
    device: u32,
    arrival: Arrival<'_>,
) -> Result<()> {
    let Arrival { program, frame, segment } = arrival;
    if !is_taken(program, frame) {
        return Ok(());
    }
    let mut expected = frame.to_vec();
    world.resolves.set(program != Program::NetworkXdp);
    let mut packet = Segmented { frame: &mut expected, segment };
    let walked = walk(&mut packet, world, program.hook(), &mut Scratch::new());
    let TestRunResult { verdict, outcome, frame } =
        programs.test_run_gso(program, device, frame, segment)?;
    ensure!(outcome == walked.outcome, "kernel: {outcome}, memory: {}", walked.outcome);
    let wanted = self::verdict(program, device, walked);
    ensure!(verdict == wanted, "verdict {verdict}, not {wanted}, after {outcome}");
    if !matches!(walked.outcome.disposition(), Disposition::Queued | Disposition::Dropped) {
        ensure!(frame == expected, "{outcome}: the bytes differ\n{frame:02x?}\n{expected:02x?}");
    }
    Ok(())
}

/// Whether the kernel takes this frame for a test run. Before 5.14 it does not
/// take the device by which a frame comes to XDP (<https://git.kernel.org/torvalds/c/47316f4a3053>). It takes none shorter than an Ethernet header,
/// and to TC none whose IP header is cut short (`bpf_prog_test_run_skb`, net/bpf/test_run.c).
fn is_taken(program: Program, frame: &[u8]) -> bool {
    if program == Program::NetworkXdp && !takes_devices_for_xdp() {
        return false;
    }
    let shortest = match frame.get(12..14) {
        None => return false,
        Some([0x08, 0x00]) if program != Program::NetworkXdp => 14 + 20,
        Some([0x86, 0xdd]) if program != Program::NetworkXdp => 14 + 40,
        Some(_) => 14,
    };
    frame.len() >= shortest
}

fn takes_devices_for_xdp() -> bool {
    static TAKES: LazyLock<bool> = LazyLock::new(|| {
        let version = KernelVersion::current();
        version.is_ok_and(|version| version >= KernelVersion::new(5, 14, 0))
    });
    *TAKES
}

/// The return value that goes with the end of a walk.
fn verdict(program: Program, device: u32, walked: WalkResult) -> i32 {
    if program == Program::NetworkXdp {
        match walked.verdict {
            Verdict::Drop => 1,
            Verdict::Pass => 2,
            Verdict::Tx => 3,
            Verdict::Redirect(out) if out == device => 3,
            Verdict::Redirect(_) => 4,
            Verdict::RedirectNeigh(_) | Verdict::Deliver(_) => 0,
        }
    } else {
        match walked.verdict {
            Verdict::Pass => -1,
            Verdict::Drop => 2,
            Verdict::Redirect(_)
            | Verdict::RedirectNeigh(_)
            | Verdict::Tx
            | Verdict::Deliver(_) => 7,
        }
    }
}

#[test]
fn the_fuzzers_packets_end_in_the_kernel_as_in_memory() -> Result<()> {
    in_own_namespace(|| {
        let testbed = testbed::build()?;
        let mut world = topology::world_with_sockets(testbed.device);
        let mut programs = testbed::load(&world.tables, testbed.device, |_| 65_536)?;
        let mut begun = Instant::now();
        for seed in 0..20_000 {
            // In memory time stands still. On a slow machine what the kernel knows of a packet's first
            // fragment would meanwhile come to its end, so both begin anew before that.
            if begun.elapsed() > UNCHANGED {
                world = topology::world_with_sockets(testbed.device);
                testbed::reset_maps(&mut programs, &world.tables, testbed.device)?;
                begun = Instant::now();
            }
            let mutation::Sent { program, frame } = mutation::of(seed);
            agree(
                &mut programs,
                &world,
                testbed.device,
                Arrival { program, frame: &frame, segment: 0 },
            )
            .with_context(|| format!("seed {seed}, {program:?}, {frame:02x?}"))?;
        }
        Ok(())
    })
}
