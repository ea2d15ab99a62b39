//! Whether a local socket uses a tuple: SNAT must not take it.

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use lb_common::address::{Address, Protocol, Tuple, V4, V6};

use super::context::Context;

/// Bytes of a tuple that the socket helpers read: both addresses, both ports, in that order, which
/// is how our own tuple begins.
const fn length<A: Address>() -> u32 {
    offset_of!(Tuple<A>, protocol) as u32
}

const _: () = assert!(length::<V4>() == 12 && length::<V6>() == 36);

/// Whether a local socket has packets of `tuple`, or listens for them.
#[inline(always)]
pub fn exists<A: Address>(context: &Context, tuple: &Tuple<A>) -> bool {
    if tuple.protocol == Protocol::SCTP {
        // No helper looks SCTP sockets up; the ports for SNAT are none that the node assigns to sockets.
        return false;
    }
    let key = (&raw const *tuple).cast_mut().cast::<bpf_sock_tuple>();
    let netns = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: the context is this program's own; of the tuple the helpers read the length stated,
    // which lies within ours, and they write nothing.
    let socket = unsafe {
        if tuple.protocol == Protocol::TCP {
            bpf_sk_lookup_tcp(context.context, key, length::<A>(), netns, 0)
        } else {
            bpf_sk_lookup_udp(context.context, key, length::<A>(), netns, 0)
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the helper returned a reference, which is given back once and not used again.
    unsafe { bpf_sk_release(socket.cast::<c_void>()) };
    true
}
