//! Questions to the kernel about programs: a few instructions run once, links at TC looked for.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::bpf::{Command, bpf, count, number};

/// The member for `BPF_PROG_LOAD`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct ProgramAttribute {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The member for `BPF_PROG_TEST_RUN`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct TestRunAttribute {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// The member for `BPF_PROG_QUERY`, as far as needed.
#[derive(Default)]
#[repr(C)]
struct ProgramQueryAttribute {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Whether the kernel has links at TC (Linux 6.6). It is queried for those of an interface index that no device has: a
/// kernel that has them looks for the device, an older one does not know the command.
pub fn has_tcx() -> bool {
    const TCX_INGRESS: u32 = 46;
    let mut attribute = ProgramQueryAttribute {
        target_ifindex: i32::MAX.unsigned_abs(),
        attach_type: TCX_INGRESS,
        ..Default::default()
    };
    // SAFETY: the attribute holds no pointer.
    let result = unsafe { bpf(Command::ProgramQuery, &mut attribute) };
    result.err().is_none_or(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// Runs the instructions of a program for TC once on `packet` and returns what they leave in
/// register 0.
///
/// # Errors
/// Those of `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN`.
pub fn run_at_tc(instructions: &[u64], packet: &[u8]) -> io::Result<u32> {
    const SCHED_CLS: u32 = 3;
    let license = c"GPL";
    let mut attribute = ProgramAttribute {
        prog_type: SCHED_CLS,
        insn_cnt: count(instructions.len()),
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: there are `insn_cnt` instructions of eight bytes, and `license` ends with a zero byte.
    let program = unsafe { bpf(Command::ProgramLoad, &mut attribute) }?;
    // SAFETY: the kernel has just handed this descriptor to us, and nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let mut attribute = TestRunAttribute {
        prog_fd: number(program.as_fd()),
        data_size_in: count(packet.len()),
        data_in: packet.as_ptr() as u64,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: the packet is `data_size_in` bytes long; without `data_out` nothing is written back.
    unsafe { bpf(Command::ProgramTestRun, &mut attribute) }?;
    Ok(attribute.retval)
}
