//! Waiting for programs that run.

use std::io;

/// Waits until every program that runs now, on any CPU, has ended: programs run in read-side critical sections of RCU,
/// and `MEMBARRIER_CMD_GLOBAL` waits for those (`synchronize_rcu` in kernel/sched/membarrier.c).
///
/// # Errors
/// That of membarrier(2): a seccomp filter forbids it, or some CPUs are `nohz_full`.
pub fn wait_for_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
