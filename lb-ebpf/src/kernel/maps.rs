//! The maps of `lb_common::maps`, as the programs see them. Sizes stand here only to load without
//! an agent; the agent sets those of its settings before it loads.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use lb_common::address::{Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, Traffic};
use lb_common::connection::Connection;
use lb_common::device::Device;
use lb_common::filter;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::outcome::Outcome;
use lb_common::service::{AddressRow, Frontend, FrontendRow, ServiceId, ServiceLabel};
use lb_common::settings::{InSettings, Settings};

use lb_common::socket::{Dialled, NamespaceQuestion, Socket};
use lb_ebpf::balance::Flows;
use lb_ebpf::socket::Room;

use super::answers::Answers;
use super::hold::HeldFrame;
use super::route::CachedHop;

#[map]
static SERVICES: HashMap<u32, ServiceLabel> = HashMap::with_max_entries(1, 0);
#[map]
static FRONTENDS_V4: HashMap<Frontend<V4>, FrontendRow> = HashMap::with_max_entries(1, 0);
#[map]
static FRONTENDS_V6: HashMap<Frontend<V6>, FrontendRow> = HashMap::with_max_entries(1, 0);
#[map]
pub static SLOTS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static BACKENDS_V4: Array<Backend<V4>> = Array::with_max_entries(1, 0);
#[map]
static BACKENDS_V6: Array<Backend<V6>> = Array::with_max_entries(1, 0);
#[map]
static CONNECTIONS_V4: HashMap<Tuple<V4>, Connection<V4>> = HashMap::with_max_entries(1, 0);
#[map]
static CONNECTIONS_V6: HashMap<Tuple<V6>, Connection<V6>> = HashMap::with_max_entries(1, 0);
#[map]
static HALF_OPEN_V4: LruHashMap<Tuple<V4>, Connection<V4>> = LruHashMap::with_max_entries(1, 0);
#[map]
static HALF_OPEN_V6: LruHashMap<Tuple<V6>, Connection<V6>> = LruHashMap::with_max_entries(1, 0);
/// Written by the agent alone and far smaller than it may get: its entries take memory only when
/// they are there.
#[map]
static ADDRESSES_V4: HashMap<V4, AddressRow> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// The same for IPv6.
#[map]
static ADDRESSES_V6: HashMap<V6, AddressRow> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static RANGES_V4: LpmTrie<RangeOf<V4>, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static RANGES_V6: LpmTrie<RangeOf<V6>, u32> = LpmTrie::with_max_entries(1, 0);
#[map]
static AFFINITY_V4: LruHashMap<Client<V4>, Affinity> = LruHashMap::with_max_entries(1, 0);
#[map]
static AFFINITY_V6: LruHashMap<Client<V6>, Affinity> = LruHashMap::with_max_entries(1, 0);
#[map]
static FRAGMENTS_V4: LruHashMap<Fragmented<V4>, FirstFragment> = LruHashMap::with_max_entries(1, 0);
#[map]
static FRAGMENTS_V6: LruHashMap<Fragmented<V6>, FirstFragment> = LruHashMap::with_max_entries(1, 0);
#[map]
pub static FILTER: Array<u64> = Array::with_max_entries(filter::WORDS, 0);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, 0);
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
pub static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Outcome::COUNT, 0);
#[map]
static TRAFFIC_V4: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(1, 0);
#[map]
static TRAFFIC_V6: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NEXT_HOPS_V4: PerCpuArray<CachedHop<V4>> =
    PerCpuArray::with_max_entries(super::route::HOPS, 0);
#[map]
static NEXT_HOPS_V6: PerCpuArray<CachedHop<V6>> =
    PerCpuArray::with_max_entries(super::route::HOPS, 0);

/// Fragments that are held, IPv4.
#[map]
static HELD_V4: LruHashMap<HeldFragment<V4>, HeldFrame> =
    LruHashMap::with_max_entries(super::hold::MOST, 0);
/// The same for IPv6.
#[map]
static HELD_V6: LruHashMap<HeldFragment<V6>, HeldFrame> =
    LruHashMap::with_max_entries(super::hold::MOST, 0);

/// Room for a frame on its way into or out of these.
#[map]
pub static HOLDING: PerCpuArray<HeldFrame> = PerCpuArray::with_max_entries(1, 0);

/// How many senders this CPU has answered lately.
#[map]
pub static ANSWERS: PerCpuArray<Answers> = PerCpuArray::with_max_entries(1, 0);

#[btf_map]
static SOCKETS_V4: SkStorage<Socket<V4>> = SkStorage::new();
#[btf_map]
static SOCKETS_V6: SkStorage<Socket<V6>> = SkStorage::new();
#[map]
pub static DIALLED: LruHashMap<u64, Dialled> = LruHashMap::with_max_entries(32_768, 0);
/// Where `own_namespace` is asked and answers.
#[map]
pub static NAMESPACE: Array<NamespaceQuestion> = Array::with_max_entries(1, 0);
/// Room to choose a backend in, which a socket has only while it dials: processes, unlike packets, are
/// interrupted by others of their CPU.
#[btf_map]
static ROOMS_V4: SkStorage<Room<V4>> = SkStorage::new();
/// The same for IPv6.
#[btf_map]
static ROOMS_V6: SkStorage<Room<V6>> = SkStorage::new();

/// Room for the walk that this CPU is on.
#[map]
pub static FLOWS: PerCpuArray<Flows> = PerCpuArray::with_max_entries(1, 0);

/// What follows the length of the prefix in a [`lb_common::source_range::SourceRange`].
#[repr(C)]
pub struct RangeOf<A> {
    service: ServiceId,
    address: A,
}

/// The maps of one family.
pub trait FamilyMaps: InSettings {
    const FRONTENDS: &'static HashMap<Frontend<Self>, FrontendRow>;
    const BACKENDS: &'static Array<Backend<Self>>;
    const CONNECTIONS: &'static HashMap<Tuple<Self>, Connection<Self>>;
    const HALF_OPEN: &'static LruHashMap<Tuple<Self>, Connection<Self>>;
    const TRAFFIC: &'static PerCpuArray<Traffic>;
    const NEXT_HOPS: &'static PerCpuArray<CachedHop<Self>>;
    const ADDRESSES: &'static HashMap<Self, AddressRow>;
    const SOURCE_RANGES: &'static LpmTrie<RangeOf<Self>, u32>;
    const AFFINITY: &'static LruHashMap<Client<Self>, Affinity>;
    const FRAGMENTS: &'static LruHashMap<Fragmented<Self>, FirstFragment>;
    const HELD: &'static LruHashMap<HeldFragment<Self>, HeldFrame>;
    const SOCKETS: &'static SkStorage<Socket<Self>>;
    const ROOMS: &'static SkStorage<Room<Self>>;

    /// The address of this family that `device` sends from.
    fn of_device(device: &Device) -> Self;
}

impl FamilyMaps for V4 {
    const FRONTENDS: &'static HashMap<Frontend<V4>, FrontendRow> = &FRONTENDS_V4;
    const BACKENDS: &'static Array<Backend<V4>> = &BACKENDS_V4;
    const CONNECTIONS: &'static HashMap<Tuple<V4>, Connection<V4>> = &CONNECTIONS_V4;
    const HALF_OPEN: &'static LruHashMap<Tuple<V4>, Connection<V4>> = &HALF_OPEN_V4;
    const TRAFFIC: &'static PerCpuArray<Traffic> = &TRAFFIC_V4;
    const NEXT_HOPS: &'static PerCpuArray<CachedHop<V4>> = &NEXT_HOPS_V4;
    const ADDRESSES: &'static HashMap<V4, AddressRow> = &ADDRESSES_V4;
    const SOURCE_RANGES: &'static LpmTrie<RangeOf<V4>, u32> = &RANGES_V4;
    const AFFINITY: &'static LruHashMap<Client<V4>, Affinity> = &AFFINITY_V4;
    const FRAGMENTS: &'static LruHashMap<Fragmented<V4>, FirstFragment> = &FRAGMENTS_V4;
    const HELD: &'static LruHashMap<HeldFragment<V4>, HeldFrame> = &HELD_V4;
    const SOCKETS: &'static SkStorage<Socket<V4>> = &SOCKETS_V4;
    const ROOMS: &'static SkStorage<Room<V4>> = &ROOMS_V4;

    #[inline(always)]
    fn of_device(device: &Device) -> Self {
        device.v4
    }
}

impl FamilyMaps for V6 {
    const FRONTENDS: &'static HashMap<Frontend<V6>, FrontendRow> = &FRONTENDS_V6;
    const BACKENDS: &'static Array<Backend<V6>> = &BACKENDS_V6;
    const CONNECTIONS: &'static HashMap<Tuple<V6>, Connection<V6>> = &CONNECTIONS_V6;
    const HALF_OPEN: &'static LruHashMap<Tuple<V6>, Connection<V6>> = &HALF_OPEN_V6;
    const TRAFFIC: &'static PerCpuArray<Traffic> = &TRAFFIC_V6;
    const NEXT_HOPS: &'static PerCpuArray<CachedHop<V6>> = &NEXT_HOPS_V6;
    const ADDRESSES: &'static HashMap<V6, AddressRow> = &ADDRESSES_V6;
    const SOURCE_RANGES: &'static LpmTrie<RangeOf<V6>, u32> = &RANGES_V6;
    const AFFINITY: &'static LruHashMap<Client<V6>, Affinity> = &AFFINITY_V6;
    const FRAGMENTS: &'static LruHashMap<Fragmented<V6>, FirstFragment> = &FRAGMENTS_V6;
    const HELD: &'static LruHashMap<HeldFragment<V6>, HeldFrame> = &HELD_V6;
    const SOCKETS: &'static SkStorage<Socket<V6>> = &SOCKETS_V6;
    const ROOMS: &'static SkStorage<Room<V6>> = &ROOMS_V6;

    #[inline(always)]
    fn of_device(device: &Device) -> Self {
        device.v6
    }
}
