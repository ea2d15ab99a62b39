//! The way to an address, asked of the kernel's routing table and remembered for a tenth of a
//! second, so that an established flow pays a look-up in an array and no more.
//!
//! The memory is a direct-mapped array per CPU: nothing is shared, hence nothing torn. A way that
//! had to be looked up is used once with the kernel's own neighbour resolution, which keeps the
//! neighbour confirmed; only then are its link addresses written by ourselves.

use core::mem;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as Lookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::address::{Address, Family, Port, Protocol};
use lb_common::hash;
use lb_ebpf::tables::{Link, NextHop, Route};

use super::features;
use super::maps::DEVICES;
use super::world::Kernel;

/// Ways remembered per CPU and family.
pub const HOPS: u32 = 1024;

/// How long a way is remembered, in nanoseconds. A test that must not depend on the time sets it
/// before it loads the programs.
#[unsafe(no_mangle)]
static ROUTE_LIFETIME: u64 = 100_000_000;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A remembered way.
#[repr(C)]
pub struct CachedHop<A> {
    /// Until when, in coarse nanoseconds since boot; 0 for a way that is not to be remembered.
    until: u64,
    /// The address asked for.
    destination: A,
    /// Interface index of the device to leave by.
    device: u32,
    /// Largest packet, in bytes; 0 if not known.
    mtu: u32,
    /// XDP may send to the device.
    xdp_sends: u32,
    /// The link addresses to leave with.
    link: Link,
    /// Question and answer of the look-up, here because the BPF stack is to be spared its 64 bytes.
    lookup: Lookup,
}

/// Where the way to `destination` is remembered.
#[inline(always)]
pub fn position<A: Address>(destination: &A) -> u32 {
    hash::endpoint(destination, Port::new(0), Protocol(0)) & (HOPS - 1)
}

/// The way to `destination`, by memory or by look-up.
#[inline(always)]
pub fn to<A: Address>(kernel: &Kernel, destination: &A, cached: &mut CachedHop<A>) -> Route {
    let now = kernel.nanoseconds();
    let remembered = cached.until > now && cached.destination == *destination;
    if !remembered && !look_up(kernel, destination, cached, now) {
        return if kernel.resolves { Route::Unreachable } else { Route::Unknown };
    }
    if !kernel.resolves && (!remembered || cached.xdp_sends == 0) {
        return Route::Unknown;
    }
    let link = remembered.then_some(cached.link);
    Route::Known(NextHop { device: cached.device, mtu: cached.mtu, link })
}

/// Asks the routing table, and remembers the answer if the neighbour is resolved. Returns whether
/// there is a way.
#[inline(always)]
fn look_up<A: Address>(
    kernel: &Kernel,
    destination: &A,
    cached: &mut CachedHop<A>,
    now: u64,
) -> bool {
    cached.destination = *destination;
    cached.until = 0;
    cached.mtu = 0;
    let lookup = &mut cached.lookup;
    // SAFETY: every field is an integer or a union of integers, for which zero is a value.
    *lookup = unsafe { mem::zeroed() };
    lookup.ifindex = kernel.device;
    // Not zero, so that the answer holds the route's MTU.
    lookup.__bindgen_anon_1.tot_len = 1;
    let [a, b, c, d] = destination.words();
    match A::FAMILY {
        Family::V4 => {
            lookup.family = AF_INET;
            lookup.__bindgen_anon_4.ipv4_dst = a;
        }
        Family::V6 => {
            lookup.family = AF_INET6;
            lookup.__bindgen_anon_4.ipv6_dst = [a, b, c, d];
        }
    }
    let size = size_of::<Lookup>() as i32;
    // SAFETY: the context is this program's own, and the parameters are as long as stated.
    let answer = unsafe { bpf_fib_lookup(kernel.context, &raw mut *lookup, size, 0) } as u32;
    cached.device = lookup.ifindex;
    // Before 5.12 the helper looks at the packet's own length besides, once everything else is answered.
    let is_too_long = !features::tells_mtu() && answer == BPF_FIB_LKUP_RET_FRAG_NEEDED;
    if answer != BPF_FIB_LKUP_RET_SUCCESS && !is_too_long {
        return answer == BPF_FIB_LKUP_RET_NO_NEIGH;
    }
    // SAFETY: on success the kernel has written the MTU; either way these are two bytes.
    let mtu = unsafe { lookup.__bindgen_anon_1.mtu_result };
    cached.link = Link::new(lookup.dmac, lookup.smac);
    cached.mtu = u32::from(mtu);
    let device = DEVICES.get_ptr(lookup.ifindex);
    // SAFETY: the kernel keeps the element readable until the program ends.
    cached.xdp_sends = u32::from(device.is_some_and(|row| unsafe { (*row).xdp_sends() }));
    if !features::tells_mtu() {
        // SAFETY: as above.
        cached.mtu = device.map_or(0, |row| u32::from(unsafe { (*row).mtu }));
    }
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    cached.until = now + unsafe { core::ptr::read_volatile(&raw const ROUTE_LIFETIME) };
    true
}
