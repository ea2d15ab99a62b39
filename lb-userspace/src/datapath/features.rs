//! What this kernel can do, found out by probing it: distributions bring new features to kernels with old
//! numbers. The programs get it in constants before they are loaded (`lb-ebpf/src/kernel/features.rs`).

use aya::EbpfLoader;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::host::syscall;

/// `BPF_F_IPV6` of `include/uapi/linux/bpf.h`: with it `bpf_l4_csum_replace` takes the change for one of an
/// IPv6 address, for which no header checksum makes up in the sum over the frame, as IPv4's does.
const BPF_F_IPV6: u64 = 1 << 7;

/// What this kernel can do. Of a kernel that does not let us probe it, for want of capabilities, what all
/// but the oldest can do is assumed: it will not take the programs either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Flags that `bpf_l4_csum_replace` takes for a changed IPv6 address. The flag is of Linux 6.16
    /// (commit ead7f9b8de65), and has since come to older kernels too.
    pub checksum_flags: u64,
    /// 1 if there is `bpf_ktime_get_coarse_ns` (Linux 5.11), else 0.
    has_coarse_clock: u32,
    /// 1 if `bpf_fib_lookup` returns the MTU of a route (Linux 5.12), else 0. It came together with
    /// `bpf_check_mtu`, which can be probed for.
    has_route_mtu: u32,
    /// 1 if programs for sockets may set the errno of a call (`bpf_set_retval`, Linux 6.1),
    /// else 0.
    sets_errors: u32,
}

impl Features {
    /// Probes this kernel.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        raise_memory_limit();
        let has = |kind, helper| u32::from(is_helper_supported(kind, helper).unwrap_or(true));
        Self {
            checksum_flags: checksum_flags(),
            has_coarse_clock: has(
                ProgramType::SchedClassifier,
                BpfHelper::BPF_FUNC_ktime_get_coarse_ns,
            ),
            has_route_mtu: has(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_check_mtu),
            sets_errors: has(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval),
        }
    }

    /// Those of a kernel that can do everything.
    #[cfg(test)]
    pub const fn all() -> Self {
        Self { checksum_flags: BPF_F_IPV6, has_coarse_clock: 1, has_route_mtu: 1, sets_errors: 1 }
    }

    /// Whether a rejected call fails with `ECONNREFUSED`, not always with `EPERM`.
    #[must_use]
    pub const fn sets_errors(&self) -> bool {
        self.sets_errors != 0
    }

    /// Whether the clock of the last timer interrupt can be read, at a tenth of the exact one's cost.
    #[must_use]
    pub const fn has_coarse_clock(&self) -> bool {
        self.has_coarse_clock != 0
    }

    /// Whether maps count as locked memory, of which processes may have little. That ended with the
    /// version that brought the coarse clock.
    #[must_use]
    pub const fn counts_maps_as_locked(&self) -> bool {
        !self.has_coarse_clock()
    }

    /// Sets the constants of the programs.
    pub fn set_constants<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global("CHECKSUM_FLAGS", &self.checksum_flags, true);
        loader.override_global("HAS_COARSE_CLOCK", &self.has_coarse_clock, true);
        loader.override_global("HAS_ROUTE_MTU", &self.has_route_mtu, true);
        loader.override_global("SETS_ERRORS", &self.sets_errors, true);
    }
}

/// Lets this process have as many maps and programs as it may, on kernels that count them as locked memory;
/// others do not look at the limit. Without `CAP_SYS_RESOURCE` no more than the hard limit is had, and what
/// is loaded may fit all the same.
fn raise_memory_limit() {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
    {
        let _refused = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
}

/// The helper, given nothing to change in a packet of zeroes, returns 0 where it knows the flag; where it
/// does not, it refuses the call.
fn checksum_flags() -> u64 {
    const L4_CSUM_REPLACE: u64 = 11;
    const TWO_BYTES: u64 = 2;
    let set = |register: u64, value: u64| 0xb7 | register << 8 | value << 32;
    let (call, exit) = (0x85 | L4_CSUM_REPLACE << 32, 0x95);
    // Register 1 holds the packet from the start.
    let instructions =
        [set(2, 14), set(3, 0), set(4, 0), set(5, BPF_F_IPV6 | TWO_BYTES), call, exit];
    match syscall::run_at_tc(&instructions, &[0; 64]) {
        Ok(0) => BPF_F_IPV6,
        Ok(_) | Err(_) => 0,
    }
}
