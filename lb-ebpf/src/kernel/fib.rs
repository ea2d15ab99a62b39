//! FIB lookups, cached for a tenth of a second, so that an established flow pays one array lookup; and the
//! neighbours they name, which the kernel confirms only while the stack sends to them.
//!
//! The cache is a direct-mapped array per CPU: nothing is shared, hence nothing is torn. A miss costs a
//! lookup and nothing else: the packet that met it leaves the same way as its followers. Every
//! [`CONFIRM_AFTER`] one packet to a neighbour goes through the kernel's own neighbour resolution, which has
//! it confirmed (STALE, DELAY, PROBE). TC does so with any packet, as both ways end in the same queue. XDP,
//! whose packets overtake those it leaves to TC, takes one that no other of its flow follows before there is
//! a reply; only after [`CONFIRM_AT_ONCE`] any.

use core::mem;

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NO_SRC_ADDR, BPF_FIB_LKUP_RET_SUCCESS, BPF_NOEXIST,
    bpf_fib_lookup as Parameters,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::address::{Address, Family};
use lb_common::device::Device;
use lb_common::hash;
use lb_ebpf::world::{FibResult, Link, NextHop, Use};

use super::context::Context;
use super::features;
use super::maps::{DEVICES, FIB_SCRATCH, FamilyMaps, NEIGHBOURS};
use super::values::{CachedHop, FIB_CACHE_ENTRIES, FibScratch, Neighbour, Seen};

/// How long a route is cached, in nanoseconds. A test that must not depend on the time sets it
/// before it loads the programs.
#[unsafe(no_mangle)]
static ROUTE_LIFETIME: u64 = 100_000_000;

/// How long a neighbour goes without being confirmed, in nanoseconds: half of what the kernel takes for
/// reachable (`base_reachable_time_ms`, 30 s by default).
const CONFIRM_AFTER: u64 = 15_000_000_000;

/// The same if XDP would have to take a packet out of order for it.
const CONFIRM_AT_ONCE: u64 = 4 * CONFIRM_AFTER;

/// Index of the loopback device (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// There is a route, and its neighbour is resolved.
const RESOLVED: u32 = BPF_FIB_LKUP_RET_SUCCESS;
/// There is a route, and its neighbour is not resolved.
const NO_NEIGHBOUR: u32 = BPF_FIB_LKUP_RET_NO_NEIGH;

/// There is a route, and no source address for its packets.
const NO_SOURCE: u32 = BPF_FIB_LKUP_RET_NO_SRC_ADDR;

/// Index of the cache entry for packets from `source` to `destination`.
#[inline(always)]
pub fn position<A: Address>(source: &A, destination: &A) -> u32 {
    const SHIFT: u32 = u64::BITS - FIB_CACHE_ENTRIES.trailing_zeros();
    (hash::addresses(source, destination) >> SHIFT) as u32
}

/// The route of packets from `source` to `destination`, cached or looked up. Where it has no link address,
/// [`FibScratch::next_hop`] of this CPU is its next hop.
#[inline(always)]
pub fn lookup<A: FamilyMaps>(
    context: &Context,
    (source, destination): (&A, &A),
    purpose: Use,
    cached: &mut CachedHop<A>,
) -> FibResult {
    let now = context.nanoseconds();
    let sends = purpose.sends();
    // What the node itself sends comes by no device, which the kernel calls the loopback one.
    let device = if purpose.is_own() { LOOPBACK } else { context.device };
    let needed = if context.resolves { CachedHop::<A>::FOR_ALL } else { CachedHop::<A>::FOR_XDP };
    let is_known =
        cached.until > now && cached.destination == *destination && cached.source == *source;
    if !is_known {
        (cached.own, cached.checked) = (A::zeroed(), 0);
    }
    let is_enough = if sends { cached.checked >= needed } else { !cached.own.is_unspecified() };
    let unusable = if context.resolves { FibResult::Unreachable } else { FibResult::LeftToTc };
    if !is_known || !is_enough {
        let Some(scratch) = FIB_SCRATCH.get_ptr_mut(0) else { return unusable };
        // SAFETY: this CPU's own value, as in `context::count`; no other reference to it exists.
        let scratch = unsafe { &mut *scratch };
        let result = query(context, device, (source, destination), sends, cached, scratch, now);
        if result != RESOLVED && result != NO_NEIGHBOUR {
            return unusable;
        }
        if result == NO_NEIGHBOUR || (sends && is_due::<A>(context, purpose, cached, now)) {
            cached.until = 0;
            let hop = NextHop { device: cached.device, mtu: cached.mtu, link: None };
            return if context.resolves { FibResult::Found(hop) } else { FibResult::LeftToTc };
        }
    }
    if !context.resolves && cached.xdp_sends == 0 {
        return FibResult::LeftToTc;
    }
    FibResult::Found(NextHop { device: cached.device, mtu: cached.mtu, link: Some(cached.link) })
}

/// Whether the cached next hop's neighbour is due to be confirmed with this packet; it then counts as
/// confirmed.
#[inline(always)]
fn is_due<A: Address>(
    context: &Context,
    purpose: Use,
    cached: &mut CachedHop<A>,
    now: u64,
) -> bool {
    let Link([first, second, _]) = cached.link;
    let family = matches!(A::FAMILY, Family::V6);
    let key =
        Neighbour { device: cached.device, link: [first, second & LINK_END, u32::from(family)] };
    let Some(seen) = NEIGHBOURS.get_ptr_mut(&key) else {
        let seen = Seen { left: now, confirmed: if context.resolves { now } else { 0 } };
        // Refused, the next packet to it finds it due.
        let _refused = NEIGHBOURS.insert(&key, &seen, u64::from(BPF_NOEXIST));
        return true;
    };
    // SAFETY: the kernel keeps the element until the program ends; both are whole aligned words, which
    // other CPUs may write meanwhile: any value of them is good.
    unsafe {
        if context.resolves {
            let is_due = now.saturating_sub((*seen).confirmed) > CONFIRM_AFTER;
            if is_due {
                ((*seen).confirmed, (*seen).left) = (now, now);
            }
            cached.checked = CachedHop::<A>::FOR_ALL;
            return is_due;
        }
        let wait = if matches!(purpose, Use::SendAlone) { CONFIRM_AFTER } else { CONFIRM_AT_ONCE };
        let is_confirmed = now.saturating_sub((*seen).confirmed) <= CONFIRM_AFTER;
        cached.checked =
            if is_confirmed { CachedHop::<A>::FOR_ALL } else { CachedHop::<A>::FOR_XDP };
        // Counted from when XDP left one to TC, which may be on its way.
        let is_due = now.saturating_sub((*seen).left) > wait;
        if is_due {
            (*seen).left = now;
        }
        is_due
    }
}

/// The bits of the second word of a [`Link`] that are the destination's.
const LINK_END: u32 = u32::from_ne_bytes([0xff, 0xff, 0, 0]);

/// Looks up the kernel's FIB as the stack does for a packet that it forwards: by both addresses and the
/// device that it came by, through the rules of policy routing. A mark that another program has set is not
/// looked at: at XDP there is none, and TC must come to the same next hop. Caches the route if there is one, and unless
/// `sends` the address of this node that the kernel chooses for packets that take it: the route's own, else one of the
/// device's in the next hop's subnet (`fib_result_prefsrc`, net/ipv4/fib_semantics.c), or by the rules of RFC 6724.
/// Before Linux 6.7 it does not say; a packet then gets the device's first one.
#[inline(always)]
fn query<A: FamilyMaps>(
    context: &Context,
    came_by: u32,
    (source, destination): (&A, &A),
    sends: bool,
    cached: &mut CachedHop<A>,
    scratch: &mut FibScratch,
    now: u64,
) -> u32 {
    (cached.source, cached.destination) = (*source, *destination);
    cached.until = 0;
    cached.mtu = 0;
    let lookup = &mut scratch.lookup;
    let flags = if sends { 0 } else { features::fib_source_flags() };
    let result = look_up(context, came_by, (source, destination), lookup, flags);
    if flags != 0 && result != NO_SOURCE {
        cached.own = chosen(lookup);
    }
    cached.device = lookup.ifindex;
    if !sends && cached.own.is_unspecified() {
        cached.own = device(lookup.ifindex).map_or(A::zeroed(), A::of_device);
    }
    // The gateway, or the destination itself where there is none; a route of IPv4 may have one of IPv6.
    scratch.next_hop.nh_family = u32::from(lookup.family);
    // SAFETY: all variants of both unions are integers, and the longest one is read and written whole.
    unsafe {
        scratch.next_hop.__bindgen_anon_1.ipv6_nh = lookup.__bindgen_anon_4.ipv6_dst;
    }
    if result != RESOLVED {
        return if result == NO_SOURCE { NO_NEIGHBOUR } else { result };
    }
    // SAFETY: on success the kernel has written the MTU; either way these are two bytes.
    let mtu = unsafe { lookup.__bindgen_anon_1.mtu_result };
    cached.link = Link::new(lookup.dmac, lookup.smac);
    cached.mtu = u32::from(mtu);
    let device = device(lookup.ifindex);
    cached.xdp_sends = u32::from(device.is_some_and(Device::xdp_sends));
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    cached.until = now + unsafe { core::ptr::read_volatile(&raw const ROUTE_LIFETIME) };
    // Without a link header there are no link addresses; such a route is looked up for each packet.
    if device.is_none_or(Device::has_link_header) { RESOLVED } else { NO_NEIGHBOUR }
}

/// A device's row.
#[inline(always)]
fn device<'a>(index: u32) -> Option<&'a Device> {
    // SAFETY: the kernel keeps the element readable until the program ends.
    DEVICES.get_ptr(&index).map(|row| unsafe { &*row })
}

/// Asks the kernel's FIB; returns `BPF_FIB_LKUP_RET_*` or an errno.
#[inline(always)]
fn look_up<A: Address>(
    context: &Context,
    came_by: u32,
    (source, destination): (&A, &A),
    lookup: &mut Parameters,
    flags: u32,
) -> u32 {
    // SAFETY: every field is an integer or a union of integers, for which zero is a value.
    *lookup = unsafe { mem::zeroed() };
    lookup.ifindex = came_by;
    // Not zero, so that the result has the route's MTU.
    lookup.__bindgen_anon_1.tot_len = 1;
    let ([a, b, c, d], [e, f, g, h]) = (source.words(), destination.words());
    match A::FAMILY {
        Family::V4 => {
            lookup.family = AF_INET;
            lookup.__bindgen_anon_3.ipv4_src = a;
            lookup.__bindgen_anon_4.ipv4_dst = e;
        }
        Family::V6 => {
            lookup.family = AF_INET6;
            lookup.__bindgen_anon_3.ipv6_src = [a, b, c, d];
            lookup.__bindgen_anon_4.ipv6_dst = [e, f, g, h];
        }
    }
    let size = size_of::<Parameters>() as i32;
    // SAFETY: the context is this program's own, and the parameters are as long as stated.
    unsafe { bpf_fib_lookup(context.context, &raw mut *lookup, size, flags) as u32 }
}

/// The source address that the kernel has chosen.
#[inline(always)]
fn chosen<A: Address>(lookup: &Parameters) -> A {
    // SAFETY: all variants of the union are integers.
    let words = unsafe {
        match A::FAMILY {
            Family::V4 => [lookup.__bindgen_anon_3.ipv4_src, 0, 0, 0],
            Family::V6 => lookup.__bindgen_anon_3.ipv6_src,
        }
    };
    A::from_words(words)
}
