//! What this kernel can do, found out by probing it: distributions bring new features to kernels with old
//! numbers. The programs get it in constants before they are loaded (`lb-ebpf/src/kernel/features.rs`).

use aya::EbpfLoader;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};

use crate::host::syscall;

/// `BPF_F_IPV6` of `include/uapi/linux/bpf.h`: with it `bpf_l4_csum_replace` takes the change for one of an
/// IPv6 address, for which no header checksum makes up in the sum over the frame, as IPv4's does.
const BPF_F_IPV6: u64 = 1 << 7;

/// `BPF_FIB_LOOKUP_SRC` of `include/uapi/linux/bpf.h`.
const BPF_FIB_LOOKUP_SRC: u32 = 1 << 4;

/// What this kernel can do. Of a kernel that does not let us probe it, for want of capabilities, what all
/// but the oldest can do is assumed: it will not take the programs either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Flags that `bpf_l4_csum_replace` takes for a changed IPv6 address. The flag is of Linux 6.16
    /// (commit ead7f9b8de65), and has since come to older kernels too.
    pub checksum_flags: u64,
    /// Whether programs may replace a word if it still is what they have read (an atomic
    /// compare-and-swap, Linux 5.12). The tables of flows need it.
    pub compares_and_swaps: bool,
    /// Flags by which `bpf_fib_lookup` says the source address for packets that take a route (Linux 6.7).
    pub fib_source_flags: u32,
    /// 1 if programs for sockets may set the errno of a call (`bpf_set_retval`, Linux 6.1),
    /// else 0.
    sets_errors: u32,
}

impl Features {
    /// Probes this kernel.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let has = |kind, helper| u32::from(is_helper_supported(kind, helper).unwrap_or(true));
        Self {
            checksum_flags: checksum_flags(),
            fib_source_flags: fib_source_flags(),
            compares_and_swaps: compares_and_swaps(),
            sets_errors: has(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval),
        }
    }

    /// Those of a kernel that can do everything.
    #[cfg(test)]
    pub const fn all() -> Self {
        Self {
            checksum_flags: BPF_F_IPV6,
            compares_and_swaps: true,
            fib_source_flags: BPF_FIB_LOOKUP_SRC,
            sets_errors: 1,
        }
    }

    /// Whether a rejected datagram fails with `ECONNREFUSED`, not with `EPERM`.
    #[must_use]
    pub const fn sets_errors(&self) -> bool {
        self.sets_errors != 0
    }

    /// Sets the constants of the programs. With `must_exist` an object that lacks one is refused when it is loaded; an
    /// earlier build's object may lack some.
    pub fn set_constants<'a>(&'a self, loader: &mut EbpfLoader<'a>, must_exist: bool) {
        loader.override_global("CHECKSUM_FLAGS", &self.checksum_flags, must_exist);
        loader.override_global("FIB_SOURCE_FLAGS", &self.fib_source_flags, must_exist);
        loader.override_global("SETS_ERRORS", &self.sets_errors, must_exist);
    }
}

/// An instruction: operation, destination and source register, offset, number.
const fn instruction(operation: u64, registers: (u64, u64), offset: i16, number: u64) -> u64 {
    let (destination, source) = registers;
    let offset = offset.cast_unsigned() as u64;
    operation | destination << 8 | source << 12 | offset << 16 | number << 32
}

/// A kernel without this instruction refuses the program as invalid. Of any other refusal, as for want of
/// capabilities, nothing is concluded.
fn compares_and_swaps() -> bool {
    const FRAME: u64 = 10;
    let instructions = [
        // *(u64 *)(r10 - 8) = 0; r0 = 0; r1 = 1
        instruction(0x7a, (FRAME, 0), -8, 0),
        instruction(0xb7, (0, 0), 0, 0),
        instruction(0xb7, (1, 0), 0, 1),
        // r0 = cmpxchg_64(r10 - 8, r0, r1): BPF_CMPXCHG of include/uapi/linux/bpf.h
        instruction(0xdb, (FRAME, 1), -8, 0xf1),
        instruction(0x95, (0, 0), 0, 0),
    ];
    let result = syscall::run_at_tc(&instructions, &[0; 64]);
    !result.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// The helper, asked for a route of no family, refuses with `EINVAL` only a flag that it does not know.
fn fib_source_flags() -> u32 {
    const FIB_LOOKUP: u64 = 69;
    const FRAME: u64 = 10;
    // `struct bpf_fib_lookup`
    const PARAMETERS: i16 = 64;
    let zero = |offset| instruction(0x7a, (FRAME, 0), offset, 0);
    let mut instructions: Vec<u64> = (1..=PARAMETERS / 8).map(|word| zero(-8 * word)).collect();
    instructions.extend([
        // r2 = r10 - 64; r3 = 64; r4 = flags. Register 1 holds the packet from the start.
        instruction(0xbf, (2, FRAME), 0, 0),
        instruction(0x07, (2, 0), 0, u64::from((-i32::from(PARAMETERS)).cast_unsigned())),
        instruction(0xb7, (3, 0), 0, PARAMETERS.cast_unsigned().into()),
        instruction(0xb7, (4, 0), 0, BPF_FIB_LOOKUP_SRC.into()),
        0x85 | FIB_LOOKUP << 32,
        0x95,
    ]);
    let refused = (-libc::EINVAL).cast_unsigned();
    match syscall::run_at_tc(&instructions, &[0; 64]) {
        Ok(result) if result != refused => BPF_FIB_LOOKUP_SRC,
        Ok(_) | Err(_) => 0,
    }
}

/// The helper, given nothing to change in a packet of zeroes, returns 0 where it knows the flag; where it
/// does not, it refuses the call.
fn checksum_flags() -> u64 {
    const L4_CSUM_REPLACE: u64 = 11;
    const TWO_BYTES: u64 = 2;
    let set = |register: u64, value: u64| instruction(0xb7, (register, 0), 0, value);
    let (call, exit) = (0x85 | L4_CSUM_REPLACE << 32, 0x95);
    // Register 1 holds the packet from the start.
    let instructions =
        [set(2, 14), set(3, 0), set(4, 0), set(5, BPF_F_IPV6 | TWO_BYTES), call, exit];
    match syscall::run_at_tc(&instructions, &[0; 64]) {
        Ok(0) => BPF_F_IPV6,
        Ok(_) | Err(_) => 0,
    }
}
