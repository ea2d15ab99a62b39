//! What a program run knows beside its packet, its scratch space, and the outcome counters.

use core::arch::asm;
use core::cell::Cell;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_common::outcome::Outcome;
use lb_ebpf::walk::Scratch;

use super::maps::{OUTCOMES, WALK_SCRATCH};

/// What a program run knows beside its packet.
pub struct Context {
    /// The program's context, for helpers that ask for it.
    pub context: *mut c_void,
    /// Interface index of the device that the packet is at.
    pub device: u32,
    /// Nanoseconds since boot, once they have been asked for; 0 before.
    clock: Cell<u64>,
    /// Whether a route that is not cached may be used at once, with the kernel resolving the neighbour;
    /// XDP cannot and leaves that packet to TC.
    pub resolves: bool,
}

impl Context {
    /// What is known at the start of a program run.
    #[inline(always)]
    pub const fn new(context: *mut c_void, device: u32, resolves: bool) -> Self {
        Self { context, device, clock: Cell::new(0), resolves }
    }

    /// Nanoseconds since boot, to the last timer interrupt: a tenth of the cost of the exact clock. It is read once per program run, and not at all for a packet of no connection.
    #[inline(always)]
    pub fn nanoseconds(&self) -> u64 {
        if self.clock.get() == 0 {
            // SAFETY: the helper takes nothing and reads a clock.
            self.clock.set(unsafe { bpf_ktime_get_coarse_ns() });
        }
        self.clock.get()
    }
}

/// Scratch space for this program run's walk.
#[inline(always)]
pub fn scratch<'a>() -> Option<&'a mut Scratch> {
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
    // CPU do not interrupt each other. It is asked for once per run.
    WALK_SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// Counts how a walk ended, by the outcome's number.
#[inline(always)]
pub fn count(outcome: u32) {
    if let Some(times) = OUTCOMES.get_ptr_mut(outcome) {
        // SAFETY: the pointer is to this CPU's own value, which no other program run touches
        // meanwhile: programs of one CPU do not interrupt each other.
        unsafe { *times += 1 };
    }
}

/// Counts how a system call ended. Processes are interrupted by packets, which count without a lock.
#[inline(always)]
pub fn count_call(outcome: Outcome) {
    if let Some(times) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: the pointer is to this CPU's own value, aligned to its size.
        unsafe { increment(times) };
    }
}

/// Adds one in a single instruction, which no interrupt cuts in two. The compiler has none of its own
/// for this target.
///
/// # Safety
/// `counter` must be good for reading and writing, and aligned.
#[inline(always)]
pub unsafe fn increment(counter: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1_u64,
            options(nostack, preserves_flags),
        );
    }
}
