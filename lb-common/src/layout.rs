//! The types that are plain bytes, and their sizes: the proof that a row has the same layout in the agent
//! and in the kernel. The only module of this crate with `unsafe`.

#![allow(unsafe_code, reason = "`Pod` and `Zeroable` are unsafe traits; see each macro's argument")]

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::address::{Port, Ports, Protocol, Tuple, V4, V6};
use crate::affinity::{Affinity, Client};
use crate::backend::{Backend, BackendId, Traffic};
use crate::conntrack::{ConntrackEntry, State, Ticks};
use crate::device::Device;
use crate::fields::{Field, Fields};
use crate::fragment::{FirstFragment, Fragmented, QueuedFragment};
use crate::service::{Frontend, FrontendRow, IpPolicy, Pool, ServiceId, ServiceLabel};
use crate::settings::{Prefix, Settings};
use crate::snat::Rows;
use crate::socket::{NamespaceQuestion, Peer, SocketRevNat, UdpConnected};
use crate::source_range::SourceRange;

/// Version of everything in this crate that maps or pins depend on. A change of a row's layout, of
/// a map's key, of the hash or of the list of outcomes moves it by one, once per release, and with it the
/// pin directory. A field that older agents
/// left zero, where zero means "unknown", needs no new version.
pub const VERSION: u32 = if cfg!(feature = "other-layout") { 1003 } else { 3 };

/// Declares a type plain bytes of exactly `$size`, after checking that its fields fill that size.
macro_rules! plain {
    ($type:ty, $size:literal = $($name:tt: $field:ty),+) => {
        impl Fields for $type {
            const FIELDS: &'static [Field] = &[
                $(Field::bytes(stringify!($name), offset_of!($type, $name), size_of::<$field>()),)+
            ];
        }
        const _: () = assert!(size_of::<$type>() == $size, "a row changed its size");
        const _: () = assert!(0 $(+ size_of::<$field>())+ == $size, "a row has padding");
        // SAFETY: the type is `repr(C)` or `repr(transparent)`, its fields are themselves plain
        // bytes, and the assertion above shows that they leave no padding; all-zero bytes are a
        // value of every field.
        unsafe impl Zeroable for $type {}
        // SAFETY: as above; and it is `Copy` and `'static` and holds no pointer.
        unsafe impl Pod for $type {}
    };
}

plain!(V4, 4 = 0: [u8; 4]);
plain!(V6, 16 = 0: [u8; 16]);
plain!(Port, 2 = 0: [u8; 2]);
plain!(Ports, 4 = 0: [u8; 4]);
plain!(Protocol, 1 = 0: u8);
plain!(ServiceId, 4 = 0: u32);
plain!(BackendId, 4 = 0: u32);
plain!(Ticks, 4 = 0: u32);
plain!(State, 4 = 0: [u8; 4]);

plain!(Tuple<V4>, 16 = source: V4, destination: V4, source_port: Port, destination_port: Port, protocol: Protocol, zero: u8, zeroes: u16);
plain!(Tuple<V6>, 40 = source: V6, destination: V6, source_port: Port, destination_port: Port, protocol: Protocol, zero: u8, zeroes: u16);
plain!(Frontend<V4>, 8 = address: V4, port: Port, protocol: Protocol, zero: u8);
plain!(Frontend<V6>, 20 = address: V6, port: Port, protocol: Protocol, zero: u8);
plain!(Pool, 8 = base: u32, length: u32);
plain!(FrontendRow, 36 = service: ServiceId, pools: [Pool; 3], affinity: u32, flags: u32);
plain!(IpPolicy, 4 = flags: u32);
plain!(ServiceLabel, 196 = namespace: [u8; 64], name: [u8; 64], port: [u8; 64], protocol: Protocol, zero: [u8; 3]);
plain!(Backend<V4>, 16 = address: V4, port: Port, protocol: Protocol, flags: u8, generation: u32, service: ServiceId);
plain!(Backend<V6>, 28 = address: V6, port: Port, protocol: Protocol, flags: u8, generation: u32, service: ServiceId);
plain!(Traffic, 40 = connections: u64, packets: u64, bytes: u64, reply_packets: u64, reply_bytes: u64);
plain!(ConntrackEntry<V4>, 40 = rewritten: Tuple<V4>, backend: BackendId, generation: u32, last_seen: Ticks, state: State, expected: u32, flags: u8, zero: u8, zeroes: u16);
plain!(ConntrackEntry<V6>, 64 = rewritten: Tuple<V6>, backend: BackendId, generation: u32, last_seen: Ticks, state: State, expected: u32, flags: u8, zero: u8, zeroes: u16);
plain!(Device, 28 = v4: V4, v6: V6, flags: u16, link: [u8; 6]);
plain!(Prefix<V4>, 8 = first: V4, mask: V4);
plain!(Prefix<V6>, 32 = first: V6, mask: V6);
plain!(Rows, 16 = odd: u64, even: u64);
plain!(Settings, 120 = namespace: u64, snat_tiers: [Rows; 3], services_v4: Prefix<V4>, services_v6: Prefix<V6>, own_v4: V4, own_v6: V6, flags: u32);
plain!(Peer<V4>, 32 = frontend: Frontend<V4>, backend: Frontend<V4>, id: BackendId, generation: u32, last_used: u64);
plain!(Peer<V6>, 56 = frontend: Frontend<V6>, backend: Frontend<V6>, id: BackendId, generation: u32, last_used: u64);
plain!(SocketRevNat<V4>, 136 = peers: [Peer<V4>; 4], sequence: u64);
plain!(SocketRevNat<V6>, 232 = peers: [Peer<V6>; 4], sequence: u64);
plain!(UdpConnected, 32 = address: [u64; 2], id: BackendId, generation: u32, port: u32, zero: u32);
plain!(NamespaceQuestion, 16 = socket: u64, namespace: u64);
plain!(Client<V4>, 8 = address: V4, service: ServiceId);
plain!(Client<V6>, 20 = address: V6, service: ServiceId);
plain!(Affinity, 12 = backend: BackendId, generation: u32, last_used: Ticks);
plain!(SourceRange<V4>, 12 = bits: u32, service: ServiceId, address: V4);
plain!(SourceRange<V6>, 24 = bits: u32, service: ServiceId, address: V6);
plain!(Fragmented<V4>, 16 = source: V4, destination: V4, identification: u32, protocol: Protocol, hook_point: u8, zeroes: u16);
plain!(Fragmented<V6>, 40 = source: V6, destination: V6, identification: u32, protocol: Protocol, hook_point: u8, zeroes: u16);
plain!(FirstFragment, 20 = ports: Ports, seen: Ticks, protocol: Protocol, queued: u8, zeroes: u16, received: u32, total: u32);
plain!(QueuedFragment<V4>, 20 = packet: Fragmented<V4>, number: u32);
plain!(QueuedFragment<V6>, 44 = packet: Fragmented<V6>, number: u32);
