//! What this kernel can do, as the agent finds it out before it loads the programs, and sizes of tables. The
//! verifier knows these constants and does not look at what they rule out, so a helper that a kernel has not may
//! stand behind one.

use core::ptr::read_volatile;

/// Whether programs for sockets may set the error of a call by `bpf_set_retval` (Linux 6.1); 0 or 1.
#[unsafe(no_mangle)]
static SETS_ERRORS: u32 = 1;

/// Flags that `bpf_l4_csum_replace` needs for IPv6: `BPF_F_IPV6` where the kernel knows it (6.16 and
/// later), else none.
#[unsafe(no_mangle)]
static CHECKSUM_FLAGS: u64 = 0;

/// Flags by which `bpf_fib_lookup` says the source address for packets that take a route: `BPF_FIB_LOOKUP_SRC` where the
/// kernel knows it (Linux 6.7 and later), else none.
#[unsafe(no_mangle)]
static FIB_SOURCE_FLAGS: u32 = 0;

/// Declares numbers of buckets, which the agent sets, and how the programs read them.
macro_rules! buckets {
    ($($(#[$doc:meta])* $NAME:ident = $before:literal, $read:ident;)+) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            static $NAME: u32 = $before;

            $(#[$doc])*
            #[inline(always)]
            pub fn $read() -> u32 {
                // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
                unsafe { read_volatile(&raw const $NAME) }
            }
        )+
    };
}

buckets! {
    /// Buckets of `CONNTRACK_*`.
    CONNTRACK_BUCKETS = 1, conntrack_buckets;
    /// Buckets of `HALF_OPEN_*`.
    HALF_OPEN_BUCKETS = 1, half_open_buckets;
    /// Buckets of `OLD_CONNTRACK_*`, while the tables are resized; 0 otherwise.
    OLD_CONNTRACK_BUCKETS = 0, old_conntrack_buckets;
    /// Buckets of `OLD_HALF_OPEN_*`, while the tables are resized; 0 otherwise.
    OLD_HALF_OPEN_BUCKETS = 0, old_half_open_buckets;
}

/// Whether these programs work on two sets of conntrack tables, those of the old size and those of the new one.
#[inline(always)]
pub fn is_resizing() -> bool {
    old_conntrack_buckets() != 0
}

/// See [`SETS_ERRORS`].
#[inline(always)]
pub fn sets_errors() -> bool {
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    unsafe { read_volatile(&raw const SETS_ERRORS) != 0 }
}

/// See [`FIB_SOURCE_FLAGS`].
#[inline(always)]
pub fn fib_source_flags() -> u32 {
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    unsafe { read_volatile(&raw const FIB_SOURCE_FLAGS) }
}

/// See [`CHECKSUM_FLAGS`].
#[inline(always)]
pub fn checksum_flags() -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(&raw const CHECKSUM_FLAGS) }
}
