//! What a packet's walk may look up, remember and ask. Three traits, by who owns the answers: the
//! agent writes [`Tables`], the walk itself writes [`Connections`], and the kernel around it knows
//! the rest ([`Node`]). The kernel programs implement them over BPF maps and helpers, the agent over
//! the planned contents, tests over ordinary collections.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::service::{AddressRow, Frontend, FrontendRow};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use crate::packet::{Packet, Unwritable};

/// The rows that the agent writes.
pub trait Tables<A: Address> {
    /// The row of `frontend`.
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow>;
    /// The row of an address that is a Service's or this node's.
    fn address(&self, address: &A) -> Option<AddressRow>;
    /// Whether `address` lies within the range that covers all cluster IPs and service CIDRs.
    fn may_be_service(&self, address: &A) -> bool;
    /// Whether a range of the same Service port holds `client`, a range of one address.
    fn allows(&self, client: &SourceRange<A>) -> bool;
    /// The backend id in slot `index`; `None` beyond the array.
    fn slot(&self, index: u32) -> Option<BackendId>;
    /// The row of a backend; `None` if the id names none.
    fn backend(&self, id: BackendId) -> Option<Backend<A>>;
    /// Whether a frontend or a backend may stand at `position` of the filter.
    fn may_concern(&self, position: Position) -> bool;
    /// The agent's settings; all zero before it has written them.
    fn settings(&self) -> Settings;
}

/// The two connection tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// `CONNECTIONS_*`: established flows.
    Established,
    /// `HALF_OPEN_*`: flows not yet established.
    HalfOpen,
}

/// Why an entry was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is one already.
    Exists,
    /// There is no room, or the kernel had no memory.
    Full,
}

/// The entries that the walk writes.
pub trait Connections<A: Address> {
    /// Copies the entry of `tuple` into `entry`, and marks the one in the table as seen now. Returns
    /// whether there is one; if not, `entry` is as it was.
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool;
    /// Copies the entry of `tuple` into `entry`, and leaves the one in the table as it is. Returns
    /// whether there is one.
    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool;
    /// Whether there is an entry of `tuple` and it rewrites its packets to `rewritten`.
    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool;
    /// Adds an entry, which must not exist yet.
    ///
    /// # Errors
    /// [`Refusal`]; the table is then as it was.
    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal>;
    /// Changes the state of an entry, if it is there.
    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State);
    /// Removes an entry, if it is there.
    fn remove(&self, table: Table, tuple: &Tuple<A>);
    /// Counts a flow begun with `backend`.
    fn count_connection(&self, backend: BackendId);
    /// Counts a packet of `bytes` length to (`reply` false) or from `backend`.
    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64);
}

/// What the walk remembers beside connections: clients and fragments.
pub trait Memories<A: Address> {
    /// What `client` got last.
    fn affinity(&self, client: &Client<A>) -> Option<Affinity>;
    /// Remembers what `client` got. Where `instead` is not set, what another CPU has remembered a
    /// moment before stays. Returns whether it is this that is remembered now.
    fn keep_affinity(&self, client: &Client<A>, affinity: &Affinity, instead: bool) -> bool;
    /// Copies what is known of a packet in fragments into `first`. Returns whether there is something;
    /// if not, `first` is as it was.
    fn first_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool;
    /// Forgets a packet of which all fragments have come.
    fn forget_fragment(&self, packet: &Fragmented<A>);
    /// Keeps a copy of a later fragment until [`Memories::release`]. Returns whether it could.
    fn hold<P: Packet + ?Sized>(&self, held: &HeldFragment<A>, frame: &mut P) -> bool;
    /// Lets the fragments held of `held`'s packet, `count` of them, come by again after `frame`, the
    /// first one, which is as it was afterwards.
    ///
    /// # Errors
    /// `frame` could not be made what it was.
    fn release<P: Packet + ?Sized>(
        &self,
        held: &mut HeldFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), Unwritable>;
    /// Remembers it. Without room the later fragments are lost, and counted as they come.
    fn keep_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment);
}

/// The way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// Interface index of the device to leave by.
    pub device: u32,
    /// Largest IP packet the link carries, in bytes; 0 if not known.
    pub mtu: u32,
    /// Link addresses of the next hop and of the device; `None` while the neighbour is not
    /// resolved, and the kernel then fills them in.
    pub link: Option<Link>,
}

/// The two link addresses of a frame, as they stand in its first twelve bytes. They are kept in
/// words of the machine's byte order, because the BPF compiler copies bytes one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Link(pub [u32; 3]);

impl Link {
    /// The link addresses of a frame to the next hop's address, `destination`, from that of the
    /// device it leaves by, `source`.
    #[inline(always)]
    #[must_use]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
        ])
    }
}

/// What is known of the way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The way is known.
    Known(NextHop),
    /// Somebody who can do more must find the way: at XDP, the full program at TC.
    Unknown,
    /// There is none.
    Unreachable,
}

/// What the kernel around the walk knows.
pub trait Node<A: Address> {
    /// The time.
    fn now(&self) -> Ticks;
    /// The way from here to `destination`.
    fn route(&self, destination: &A) -> Route;
    /// The address that `device` sends from; unspecified if it has none of this family.
    fn own_address(&self, device: u32) -> A;
    /// The address that the device sends from that the packet is at; unspecified if it has none.
    fn here(&self) -> A;
    /// Whether one more sender may be answered or told of a rejection: such packets are limited in
    /// number, or a flood of the ones would be a flood of the others.
    fn may_answer(&self) -> bool;
    /// Whether a socket of this node has, or listens for, packets of `tuple`.
    fn has_socket(&self, tuple: &Tuple<A>) -> bool;
}
