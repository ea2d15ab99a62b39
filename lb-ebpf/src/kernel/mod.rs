//! The kernel around the walk: maps, clock, routes, sockets, and one file per kind of hook.

mod answers;
mod bounds;
mod cgroup;
mod features;
mod hold;
mod maps;
mod route;
mod socket;
mod tc;
mod verifier;
mod world;
mod xdp;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// `bpf_fib_lookup` may be called by programs under a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
