//! The maps of `lb_common::maps`, as the programs see them, and a few that only the programs use. Sizes
//! stand here only to load without an agent; the agent sets those of its settings before it loads.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray};
use lb_common::address::{V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, Traffic};
use lb_common::conntrack::table::Stored;
use lb_common::device::Device;
use lb_common::filter;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::maps::{LayoutText, Successor};
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, FrontendRow, IpPolicy, ServiceLabel};
use lb_common::settings::{InSettings, Settings};
use lb_common::snat::{GROUPS, HINT_ROWS, PortHints, Rows};
use lb_common::socket::{NamespaceQuestion, SocketRevNat, UdpConnected};
use lb_ebpf::world::RateLimit;
use lb_ebpf::{socket_lb, walk};

use super::values::{
    CachedHop, FIB_CACHE_ENTRIES, FibScratch, LogScratch, Neighbour, QueuedFrame, RangeOf,
    RateCount, Seen,
};

/// The family, in place of a map's parameter.
macro_rules! family {
    ($A:ident, $family:ty) => {
        $family
    };
}

/// Declares maps that exist once in each family: the two statics by their names in the object, and a
/// constant of [`FamilyMaps`] by which code written for both families reaches them.
macro_rules! per_family {
    ($(
        $(#[$meta:meta])*
        $name:ident$(<$A:ident>)?($v4:ident, $v6:ident): $type:ty = $new:expr;
    )+) => {
        $(
            #[allow(non_camel_case_types, reason = "named like the map whose type it is")]
            type $name$(<$A>)? = $type;
            $(#[$meta])*
            static $v4: $name$(<family!($A, V4)>)? = $new;
            $(#[$meta])*
            static $v6: $name$(<family!($A, V6)>)? = $new;
        )+

        /// The maps of one family.
        pub trait FamilyMaps: InSettings + Stored {
            $(const $name: &'static $name$(<family!($A, Self)>)?;)+

            /// The source address of `device`, of this family.
            fn of_device(device: &Device) -> Self;
        }

        impl FamilyMaps for V4 {
            $(const $name: &'static $name$(<family!($A, V4)>)? = &$v4;)+

            #[inline(always)]
            fn of_device(device: &Device) -> Self {
                device.v4
            }
        }

        impl FamilyMaps for V6 {
            $(const $name: &'static $name$(<family!($A, V6)>)? = &$v6;)+

            #[inline(always)]
            fn of_device(device: &Device) -> Self {
                device.v6
            }
        }
    };
}

per_family! {
    #[map]
    FRONTENDS<A>(FRONTENDS_V4, FRONTENDS_V6): HashMap<Frontend<A>, FrontendRow> =
        HashMap::with_max_entries(1, 0);
    #[map]
    BACKENDS<A>(BACKENDS_V4, BACKENDS_V6): Array<Backend<A>> = Array::with_max_entries(1, 0);
    #[map]
    CONNTRACK<A>(CONNTRACK_V4, CONNTRACK_V6): Array<<A as Stored>::Bucket> =
        Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    HALF_OPEN<A>(HALF_OPEN_V4, HALF_OPEN_V6): Array<<A as Stored>::Bucket> =
        Array::with_max_entries(1, BPF_F_MMAPABLE);
    // The tables of the size before, while the agent resizes them.
    #[map]
    OLD_CONNTRACK<A>(OLD_CONNTRACK_V4, OLD_CONNTRACK_V6): Array<<A as Stored>::Bucket> =
        Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    OLD_HALF_OPEN<A>(OLD_HALF_OPEN_V4, OLD_HALF_OPEN_V6): Array<<A as Stored>::Bucket> =
        Array::with_max_entries(1, BPF_F_MMAPABLE);
    // Written by the agent alone and far smaller than it may get: its entries take memory only while
    // they exist.
    #[map]
    IP_POLICY<A>(IP_POLICY_V4, IP_POLICY_V6): HashMap<A, IpPolicy> =
        HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
    #[map]
    SRC_RANGES<A>(SRC_RANGES_V4, SRC_RANGES_V6): LpmTrie<RangeOf<A>, u32> =
        LpmTrie::with_max_entries(1, 0);
    #[map]
    AFFINITY<A>(AFFINITY_V4, AFFINITY_V6): LruHashMap<Client<A>, Affinity> =
        LruHashMap::with_max_entries(1, 0);
    #[map]
    FRAGMENTS<A>(FRAGMENTS_V4, FRAGMENTS_V6): LruHashMap<Fragmented<A>, FirstFragment> =
        LruHashMap::with_max_entries(1, 0);
    #[map]
    TRAFFIC(TRAFFIC_V4, TRAFFIC_V6): PerCpuArray<Traffic> = PerCpuArray::with_max_entries(1, 0);
    #[btf_map]
    SOCK_REV_NAT<A>(SOCK_REV_NAT_V4, SOCK_REV_NAT_V6): SkStorage<SocketRevNat<A>> =
        SkStorage::new();
    #[map]
    FIB_CACHE<A>(FIB_CACHE_V4, FIB_CACHE_V6): PerCpuArray<CachedHop<A>> =
        PerCpuArray::with_max_entries(FIB_CACHE_ENTRIES, 0);
    #[map]
    FRAG_QUEUE<A>(FRAG_QUEUE_V4, FRAG_QUEUE_V6): LruHashMap<QueuedFragment<A>, QueuedFrame> =
        LruHashMap::with_max_entries(1, 0);
    // Scratch space that a socket has only during its call: processes, unlike packets, are interrupted
    // by others of their CPU.
    #[btf_map]
    SOCK_SCRATCH<A>(SOCK_SCRATCH_V4, SOCK_SCRATCH_V6): SkStorage<socket_lb::Scratch<A>> =
        SkStorage::new();
}

#[map]
static SERVICES: HashMap<u32, ServiceLabel> = HashMap::with_max_entries(1, 0);
#[map]
pub static SLOTS: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static FILTER: Array<u64> = Array::with_max_entries(filter::WORDS, BPF_F_MMAPABLE);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, 0);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static PORT_HINTS: Array<PortHints> = Array::with_max_entries(HINT_ROWS, 0);
#[map]
pub static FULL_ROWS: Array<Rows> = Array::with_max_entries(GROUPS, 0);
#[map]
pub static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Outcome::COUNT, 0);
#[map]
pub static UDP_CONNECTED: LruHashMap<u64, UdpConnected> = LruHashMap::with_max_entries(32_768, 0);

/// While the agent resizes the conntrack tables: whether new flows go to the new ones.
#[map]
pub static RESIZE: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static LAYOUT: Array<LayoutText> = Array::with_max_entries(1, 0);
/// Whether packets of unknown flows are handed over.
#[map]
pub static HANDOVER: Array<u32> = Array::with_max_entries(1, 0);
/// To which programs.
#[map]
pub static SUCCESSORS: ProgramArray =
    ProgramArray::with_max_entries(Successor::ALL.len() as u32, 0);
/// What a FIB lookup works with.
#[map]
pub static FIB_SCRATCH: PerCpuArray<FibScratch> = PerCpuArray::with_max_entries(1, 0);
/// When each neighbour was last confirmed.
#[map]
pub static NEIGHBOURS: LruHashMap<Neighbour, Seen> = LruHashMap::with_max_entries(1, 0);
/// Scratch space for a frame on its way into or out of the fragment queue.
#[map]
pub static FRAG_SCRATCH: PerCpuArray<QueuedFrame> = PerCpuArray::with_max_entries(1, 0);
/// What each rate limit has counted on this CPU lately.
#[map]
pub static RATE_LIMIT: PerCpuArray<RateCount> =
    PerCpuArray::with_max_entries(RateLimit::ALL.len() as u32, 0);
/// Question and answer of `own_namespace`.
#[map]
pub static NAMESPACE: Array<NamespaceQuestion> = Array::with_max_entries(1, 0);
/// The steps of the walk that this CPU logs.
#[map]
pub static LOG_SCRATCH: PerCpuArray<LogScratch> = PerCpuArray::with_max_entries(1, 0);
/// Scratch space for the walk that this CPU is on.
#[map]
pub static WALK_SCRATCH: PerCpuArray<walk::Scratch> = PerCpuArray::with_max_entries(1, 0);
