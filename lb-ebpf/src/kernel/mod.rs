//! The kernel around the walk: maps, clock, routes, sockets, and one file per kind of hook.

mod conntrack;
mod context;
mod features;
mod fib;
mod flow_insertion;
mod flow_memory;
mod flow_steps;
mod flow_table;
mod fragment_queue;
mod hooks;
mod link_address;
mod maps;
mod packet_access;
mod port_hints;
mod rate_limit;
mod skb;
mod socket_lookup;
mod values;
mod verifier;
mod world;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// `bpf_fib_lookup` may be called by programs under a GPL-compatible licence only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
