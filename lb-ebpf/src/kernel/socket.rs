//! Whether the node itself has a socket for a tuple, so that translated flows keep out of its way.

use core::ffi::c_void;
use core::mem;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use lb_common::address::{Address, Protocol, Tuple, V4, V6};

use super::world::Kernel;

/// A tuple as the socket helpers take it.
pub trait SocketTuple: Address {
    /// Bytes of it that this family uses.
    const SIZE: u32;

    /// Writes the tuple.
    fn fill(tuple: &Tuple<Self>, into: &mut bpf_sock_tuple);
}

impl SocketTuple for V4 {
    const SIZE: u32 = 12;

    #[inline(always)]
    fn fill(tuple: &Tuple<Self>, into: &mut bpf_sock_tuple) {
        let [saddr, ..] = tuple.source.words();
        let [daddr, ..] = tuple.destination.words();
        into.__bindgen_anon_1.ipv4.saddr = saddr;
        into.__bindgen_anon_1.ipv4.daddr = daddr;
        into.__bindgen_anon_1.ipv4.sport = u16::from_ne_bytes(tuple.source_port.0);
        into.__bindgen_anon_1.ipv4.dport = u16::from_ne_bytes(tuple.destination_port.0);
    }
}

impl SocketTuple for V6 {
    const SIZE: u32 = 36;

    #[inline(always)]
    fn fill(tuple: &Tuple<Self>, into: &mut bpf_sock_tuple) {
        into.__bindgen_anon_1.ipv6.saddr = tuple.source.words();
        into.__bindgen_anon_1.ipv6.daddr = tuple.destination.words();
        into.__bindgen_anon_1.ipv6.sport = u16::from_ne_bytes(tuple.source_port.0);
        into.__bindgen_anon_1.ipv6.dport = u16::from_ne_bytes(tuple.destination_port.0);
    }
}

/// Whether a socket has packets of `tuple`, or listens for them.
#[inline(always)]
pub fn exists<A: SocketTuple>(kernel: &Kernel, tuple: &Tuple<A>) -> bool {
    // SAFETY: the union is of integers, for which zero is a value.
    let mut key: bpf_sock_tuple = unsafe { mem::zeroed() };
    A::fill(tuple, &mut key);
    let netns = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: the context is this program's own; the tuple is at least as long as stated.
    let socket = unsafe {
        if tuple.protocol == Protocol::TCP {
            bpf_sk_lookup_tcp(kernel.context, &raw mut key, A::SIZE, netns, 0)
        } else {
            bpf_sk_lookup_udp(kernel.context, &raw mut key, A::SIZE, netns, 0)
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the helper returned a reference, which is given back once and not used again.
    unsafe { bpf_sk_release(socket.cast::<c_void>()) };
    true
}
