//! The types that are plain bytes, and their sizes: the proof that a row has the same layout in the agent
//! and in the kernel. The only module of this crate with `unsafe`.

#![allow(unsafe_code, reason = "`Pod` and `Zeroable` are unsafe traits; see each macro's argument")]

use bytemuck::{Pod, Zeroable};

use crate::address::{Port, Ports, Protocol, Tuple, V4, V6};
use crate::affinity::{Affinity, Client};
use crate::backend::{Backend, BackendId, Traffic};
use crate::conntrack::{ConntrackEntry, State, Ticks};
use crate::device::Device;
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
pub const VERSION: u32 = 3;

/// Declares a type plain bytes of exactly `$size`, after checking that its fields fill that size.
macro_rules! plain {
    ($type:ty, $size:literal = $($field:ty),+) => {
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

plain!(V4, 4 = [u8; 4]);
plain!(V6, 16 = [u8; 16]);
plain!(Port, 2 = [u8; 2]);
plain!(Ports, 4 = [u8; 4]);
plain!(Protocol, 1 = u8);
plain!(ServiceId, 4 = u32);
plain!(BackendId, 4 = u32);
plain!(Ticks, 4 = u32);
plain!(State, 4 = [u8; 4]);

plain!(Tuple<V4>, 16 = V4, V4, Port, Port, Protocol, u8, u16);
plain!(Tuple<V6>, 40 = V6, V6, Port, Port, Protocol, u8, u16);
plain!(Frontend<V4>, 8 = V4, Port, Protocol, u8);
plain!(Frontend<V6>, 20 = V6, Port, Protocol, u8);
plain!(Pool, 8 = u32, u32);
plain!(FrontendRow, 36 = ServiceId, Pool, Pool, Pool, u32, u32);
plain!(IpPolicy, 4 = u32);
plain!(ServiceLabel, 196 = [u8; 64], [u8; 64], [u8; 64], Protocol, [u8; 3]);
plain!(Backend<V4>, 16 = V4, Port, Protocol, u8, u32, ServiceId);
plain!(Backend<V6>, 28 = V6, Port, Protocol, u8, u32, ServiceId);
plain!(Traffic, 40 = u64, u64, u64, u64, u64);
plain!(ConntrackEntry<V4>, 40 = Tuple<V4>, BackendId, u32, Ticks, State, u32, u8, u8, u16);
plain!(ConntrackEntry<V6>, 64 = Tuple<V6>, BackendId, u32, Ticks, State, u32, u8, u8, u16);
plain!(Device, 28 = V4, V6, u16, [u8; 6]);
plain!(Prefix<V4>, 8 = V4, V4);
plain!(Prefix<V6>, 32 = V6, V6);
plain!(Rows, 16 = u64, u64);
plain!(Settings, 120 = u64, [Rows; 3], Prefix<V4>, Prefix<V6>, V4, V6, u32);
plain!(Peer<V4>, 32 = Frontend<V4>, Frontend<V4>, BackendId, u32, u64);
plain!(Peer<V6>, 56 = Frontend<V6>, Frontend<V6>, BackendId, u32, u64);
plain!(SocketRevNat<V4>, 136 = [Peer<V4>; 4], u64);
plain!(SocketRevNat<V6>, 232 = [Peer<V6>; 4], u64);
plain!(UdpConnected, 32 = [u64; 2], BackendId, u32, u32, u32);
plain!(NamespaceQuestion, 16 = u64, u64);
plain!(Client<V4>, 8 = V4, ServiceId);
plain!(Client<V6>, 20 = V6, ServiceId);
plain!(Affinity, 12 = BackendId, u32, Ticks);
plain!(SourceRange<V4>, 12 = u32, ServiceId, V4);
plain!(SourceRange<V6>, 24 = u32, ServiceId, V6);
plain!(Fragmented<V4>, 16 = V4, V4, u32, Protocol, u8, u16);
plain!(Fragmented<V6>, 40 = V6, V6, u32, Protocol, u8, u16);
plain!(FirstFragment, 20 = Ports, Ticks, Protocol, u8, u16, u32, u32);
plain!(QueuedFragment<V4>, 20 = Fragmented<V4>, u32);
plain!(QueuedFragment<V6>, 44 = Fragmented<V6>, u32);
