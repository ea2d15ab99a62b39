//! FIB lookups, cached for a tenth of a second, so that an established flow pays one array lookup.
//!
//! The cache is a direct-mapped array per CPU: nothing is shared, hence nothing is torn. A route that is
//! not cached is used once with the kernel's own neighbour resolution, which keeps the neighbour
//! confirmed; only then do the programs write its link addresses.

use core::mem;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as Parameters,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::address::{Address, Family, Port, Protocol};
use lb_common::hash;
use lb_ebpf::world::{FibResult, Link, NextHop};

use super::context::Context;
use super::features;
use super::maps::DEVICES;
use super::values::{CachedHop, FIB_CACHE_ENTRIES};

/// How long a route is cached, in nanoseconds. A test that must not depend on the time sets it
/// before it loads the programs.
#[unsafe(no_mangle)]
static ROUTE_LIFETIME: u64 = 100_000_000;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Index of the cache entry for `destination`.
#[inline(always)]
pub fn position<A: Address>(destination: &A) -> u32 {
    hash::endpoint(destination, Port::new(0), Protocol(0)) & (FIB_CACHE_ENTRIES - 1)
}

/// The route to `destination`, cached or looked up.
#[inline(always)]
pub fn lookup<A: Address>(
    context: &Context,
    destination: &A,
    cached: &mut CachedHop<A>,
) -> FibResult {
    let now = context.nanoseconds();
    let is_cached = cached.until > now && cached.destination == *destination;
    if !is_cached && !query(context, destination, cached, now) {
        return if context.resolves { FibResult::Unreachable } else { FibResult::LeftToTc };
    }
    if !context.resolves && (!is_cached || cached.xdp_sends == 0) {
        return FibResult::LeftToTc;
    }
    let link = is_cached.then_some(cached.link);
    FibResult::Found(NextHop { device: cached.device, mtu: cached.mtu, link })
}

/// Looks up the kernel's FIB, and caches the result if the neighbour is resolved. Returns whether there
/// is a route.
#[inline(always)]
fn query<A: Address>(
    context: &Context,
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
    lookup.ifindex = context.device;
    // Not zero, so that the result has the route's MTU.
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
    let size = size_of::<Parameters>() as i32;
    // SAFETY: the context is this program's own, and the parameters are as long as stated.
    let result = unsafe { bpf_fib_lookup(context.context, &raw mut *lookup, size, 0) } as u32;
    cached.device = lookup.ifindex;
    // Before 5.12 the helper also checks the packet's length, after everything else.
    let is_too_long = !features::has_route_mtu() && result == BPF_FIB_LKUP_RET_FRAG_NEEDED;
    if result != BPF_FIB_LKUP_RET_SUCCESS && !is_too_long {
        return result == BPF_FIB_LKUP_RET_NO_NEIGH;
    }
    // SAFETY: on success the kernel has written the MTU; either way these are two bytes.
    let mtu = unsafe { lookup.__bindgen_anon_1.mtu_result };
    cached.link = Link::new(lookup.dmac, lookup.smac);
    cached.mtu = u32::from(mtu);
    let device = DEVICES.get_ptr(lookup.ifindex);
    // SAFETY: the kernel keeps the element readable until the program ends.
    cached.xdp_sends = u32::from(device.is_some_and(|row| unsafe { (*row).xdp_sends() }));
    if !features::has_route_mtu() {
        // SAFETY: as above.
        cached.mtu = device.map_or(0, |row| u32::from(unsafe { (*row).mtu }));
    }
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    cached.until = now + unsafe { core::ptr::read_volatile(&raw const ROUTE_LIFETIME) };
    true
}
