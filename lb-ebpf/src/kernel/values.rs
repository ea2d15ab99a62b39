//! Values of maps that only the programs use.

use aya_ebpf::bindings::{bpf_fib_lookup, bpf_redir_neigh};
use lb_common::service::ServiceId;
use lb_ebpf::packet::MAX_QUEUED_FRAME;
use lb_ebpf::trace::Summary;
use lb_ebpf::world::Link;

/// Routes cached per CPU and family; a power of two. They take 192 KiB of IPv4 and 352 KiB of IPv6 per CPU.
pub const FIB_CACHE_ENTRIES: u32 = 4096;

/// A cached FIB lookup; the value of `FIB_CACHE_*`.
#[repr(C)]
pub struct CachedHop<A> {
    /// Valid until then, in coarse nanoseconds since boot; 0 if it is not to be cached.
    pub until: u64,
    /// The source looked up.
    pub source: A,
    /// The destination looked up.
    pub destination: A,
    /// The address of this node that a new flow's packets get as their source, where one was asked for; else
    /// unspecified.
    pub own: A,
    /// Interface index of the egress device.
    pub device: u32,
    /// MTU of the route, in bytes; 0 if not known.
    pub mtu: u32,
    /// Not zero if XDP may redirect to the device.
    pub xdp_sends: u32,
    /// Which programs need not see to it that the neighbour is confirmed: none (0), XDP, which has left a
    /// packet to TC or waits for one ([`CachedHop::FOR_XDP`]), or all ([`CachedHop::FOR_ALL`]).
    pub checked: u32,
    /// Link addresses of the next hop and of the device.
    pub link: Link,
}

impl<A> CachedHop<A> {
    /// See [`CachedHop::checked`].
    pub const FOR_XDP: u32 = 1;
    /// See [`CachedHop::checked`].
    pub const FOR_ALL: u32 = 2;
}

/// What a FIB lookup works with, for which the BPF stack has no room; the value of `FIB_SCRATCH`.
#[repr(C)]
pub struct FibScratch {
    /// Parameters and result of `bpf_fib_lookup`.
    pub lookup: bpf_fib_lookup,
    /// The next hop that it found, for `bpf_redirect_neigh`.
    pub next_hop: bpf_redir_neigh,
}

/// A neighbour of one family; the key of `NEIGHBOURS`.
#[repr(C)]
pub struct Neighbour {
    /// Interface index of the device that leads to it.
    pub device: u32,
    /// Its link address in the first two words, as in a [`Link`], and 1 in the third for IPv6, 0 for IPv4.
    pub link: [u32; 3],
}

/// When the kernel was last given a packet to send to a neighbour, in coarse nanoseconds since boot; the
/// value of `NEIGHBOURS`.
#[repr(C)]
pub struct Seen {
    /// XDP left one to TC, or TC gave it one.
    pub left: u64,
    /// TC gave it one.
    pub confirmed: u64,
}

/// A queued frame; the value of `FRAG_QUEUE_*`.
#[repr(C)]
pub struct QueuedFrame {
    /// Its length in bytes.
    pub length: u32,
    /// Its bytes, from the Ethernet header on.
    pub bytes: [u8; MAX_QUEUED_FRAME as usize],
}

/// How often a CPU has done what a rate limit counts; the value of `RATE_LIMIT`.
#[repr(C)]
pub struct RateCount {
    /// The period that is counted.
    pub period: u32,
    /// How often in that period.
    pub times: u32,
}

/// Steps of one walk that are logged at most; a power of two.
pub const LOGGED_STEPS: usize = 32;

/// What the datapath log has of the walk that this CPU is on; the value of `LOG_SCRATCH`.
#[repr(C)]
pub struct LogScratch {
    /// The period that is counted, of the rate limit.
    pub period: u32,
    /// Walks logged in that period.
    pub logged: u32,
    /// Walks that were not logged since the last one that was.
    pub suppressed: u32,
    /// How many steps the walk had; those beyond the array overwrite its first ones.
    pub count: u32,
    /// The hook's point and the sender's class.
    pub hook: [u32; 2],
    /// 4 or 6; 0 for a packet of neither family.
    pub family: u32,
    /// The outcome's number.
    pub outcome: u32,
    /// The verdict's number, in the order of its variants, and the device of a redirect.
    pub verdict: [u32; 2],
    /// The steps of this walk.
    pub steps: [Summary; LOGGED_STEPS],
}

/// What follows the prefix length in a [`lb_common::source_range::SourceRange`].
#[repr(C)]
pub struct RangeOf<A> {
    /// The Service port.
    pub service: ServiceId,
    /// The first address.
    pub address: A,
}
