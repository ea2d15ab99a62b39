//! What a walk may look up, remember and ask. Five traits, by owner: the agent writes [`Tables`], the
//! walk writes [`Conntrack`], [`AffinityTable`] and [`Fragments`], and the kernel around it is the
//! [`Host`]. The kernel programs implement them over BPF maps and helpers, the agent over the planned
//! contents, tests over ordinary collections.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::outcome::Outcome;
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::{InSettings, Settings};
use lb_common::snat::Rows;
use lb_common::source_range::SourceRange;

use crate::packet::{Packet, WriteError};
pub use crate::route::{FibResult, Link, NextHop, Use};
use crate::wire::Proof;

/// All that a walk may ask about one family.
pub trait World<A: Address>:
    Tables<A> + Conntrack<A> + AffinityTable<A> + Fragments<A> + Host<A>
{
}
impl<A, W> World<A> for W
where
    A: Address,
    W: Tables<A> + Conntrack<A> + AffinityTable<A> + Fragments<A> + Host<A>,
{
}

/// The rows that the agent writes.
pub trait Tables<A: Address> {
    /// The row of `frontend`.
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow>;
    /// The policy of an address that is a Service's or this node's.
    fn ip_policy(&self, address: &A) -> Option<IpPolicy>;
    /// Whether `address` is within the range that covers all cluster IPs and service CIDRs.
    fn in_service_ranges(&self, address: &A) -> bool;
    /// Whether a range of the same Service port contains `source`, a range of one address.
    fn source_allowed(&self, source: &SourceRange<A>) -> bool;
    /// The backend id in slot `index`; `None` beyond the array.
    fn slot(&self, index: u32) -> Option<BackendId>;
    /// The row of a backend; `None` if the id names none.
    fn backend(&self, id: BackendId) -> Option<Backend<A>>;
    /// Whether the filter's bits at `position` are all set: a frontend or a backend, whose position it is,
    /// may be there.
    fn filter_matches(&self, position: Position) -> bool;
    /// The agent's settings; all zero before it has written them.
    fn settings(&self) -> Settings;
    /// The node's own address, of the settings.
    fn node_address(&self) -> A
    where
        A: InSettings,
    {
        A::own(&self.settings())
    }
    /// Whether what the node sends to any address passes a device that has programs.
    fn has_default_route(&self) -> bool
    where
        A: InSettings,
    {
        A::has_default_route(&self.settings())
    }
    /// Whether which way a packet goes may depend on its source address.
    fn routes_by_source(&self) -> bool {
        self.settings().routes_by_source()
    }
    /// The tier of source ports for SNAT with this number; empty if there is none.
    fn snat_tier(&self, index: usize) -> Rows {
        self.settings().snat_tiers.get(index).copied().unwrap_or_default()
    }
}

/// The two conntrack tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// `CONNTRACK_*`: established flows.
    Established,
    /// `HALF_OPEN_*`: flows not yet established.
    HalfOpen,
}

/// Why an entry was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// The key exists.
    Exists,
    /// The table is full, or the kernel had no memory.
    Full,
}

impl From<InsertError> for Outcome {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Exists | InsertError::Full => Self::DroppedConntrackFull,
        }
    }
}

/// The conntrack tables, and the counters that go with them.
pub trait Conntrack<A: Address> {
    /// Copies the entry of `tuple` into `entry` and sets the time that the one in
    /// the table was last seen; in the established one, whose sender has shown that it knows the flow,
    /// also `expected` where the acknowledgment number of `proof` moves it. Returns whether there is one; if not, `entry` is unchanged.
    fn lookup_and_touch(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        proof: &Proof,
        entry: &mut ConntrackEntry<A>,
    ) -> bool;
    /// Copies the entry of `tuple` into `entry` and leaves the one in the table unchanged. Returns
    /// whether there is one.
    fn lookup(&self, table: Table, tuple: &Tuple<A>, entry: &mut ConntrackEntry<A>) -> bool;
    /// Whether there is an entry of `tuple` that is the other one of the flow that has one under `other`.
    fn has_mapping(&self, table: Table, tuple: &Tuple<A>, other: &Tuple<A>) -> bool;
    /// Inserts an entry whose key must not exist yet.
    ///
    /// # Errors
    /// [`InsertError`]; the table is unchanged.
    fn insert(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<(), InsertError>;
    /// Changes the marks of an entry, if it exists, that `after` and `before` differ in; each is a byte
    /// of its own, and what another CPU has changed of the others stays.
    fn set_state(&self, table: Table, tuple: &Tuple<A>, before: State, after: State);
    /// Changes what packets of an entry are expected to carry, if it exists.
    fn set_expected(&self, table: Table, tuple: &Tuple<A>, expected: u32);
    /// Removes an entry, if it exists.
    fn remove(&self, table: Table, tuple: &Tuple<A>);
    /// The rows of source ports that are thought to be full for a group of flows.
    fn full_rows(&self, group: u32) -> Rows;
    /// A row is thought to be full from now on.
    fn set_row_full(&self, group: u32, row: u32);
    /// One word of hints of a row.
    fn port_hint_word(&self, row: u32, word: u32) -> u64;
    /// Sets a bit in a word of hints: the port is thought to be in use from now on.
    fn set_port_hint(&self, row: u32, word: u32, bit: u64);
    /// Counts a new flow to `backend`.
    fn count_connection(&self, backend: BackendId);
    /// Counts a packet of `bytes` length to (`reply` false) or from `backend`.
    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64);
}

/// Session affinity.
pub trait AffinityTable<A: Address> {
    /// What `client` got last.
    fn affinity(&self, client: &Client<A>) -> Option<Affinity>;
    /// Remembers what `client` got. Unless `overwrite` is set, what another CPU has remembered a
    /// moment before stays. Returns whether this one is remembered now.
    fn set_affinity(&self, client: &Client<A>, affinity: &Affinity, overwrite: bool) -> bool;
}

/// Packets in fragments.
pub trait Fragments<A: Address> {
    /// Copies what is known of a packet in fragments into `first`. Returns whether there is anything;
    /// if not, `first` is unchanged.
    fn lookup_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool;
    /// Remembers what is known of a packet. If the table refuses, the later fragments are dropped and
    /// counted as they arrive.
    fn set_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment);
    /// Forgets a packet of which all fragments have arrived.
    fn remove_fragment(&self, packet: &Fragmented<A>);
    /// Queues a copy of a later fragment until [`Fragments::release`]. Returns whether it could.
    fn enqueue<P: Packet + ?Sized>(&self, fragment: &QueuedFragment<A>, frame: &mut P) -> bool;
    /// Sends the `count` queued fragments of `fragment`'s packet through its device again, after
    /// `frame`, the first one, which is unchanged afterwards.
    ///
    /// # Errors
    /// `frame` could not be restored.
    fn release<P: Packet + ?Sized>(
        &self,
        fragment: &mut QueuedFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), WriteError>;
}

/// What a CPU does a limited number of times a second, because senders can ask for it. Each is counted
/// apart: a flood of pings must not keep path MTU discovery from working, nor the reverse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum RateLimit {
    /// Echo replies.
    EchoReply,
    /// Port unreachable, to senders that a Service rejects.
    Rejection,
    /// Time exceeded.
    TimeExceeded,
    /// Fragmentation needed and packet too big.
    PathMtu,
    /// Packets whose later fragments are queued until the first one arrives.
    FragmentQueue,
}

impl RateLimit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::EchoReply, Self::Rejection, Self::TimeExceeded, Self::PathMtu, Self::FragmentQueue];

    /// What is limited, in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EchoReply => "echo replies",
            Self::Rejection => "rejections",
            Self::TimeExceeded => "time exceeded",
            Self::PathMtu => "path MTU errors",
            Self::FragmentQueue => "queued packets",
        }
    }
}

/// The destination link address of the frame that was last found to be for this node, and the device at
/// which. While frames bear it, a device's own address need not be looked up. Once that has changed, the
/// first frame with the new one replaces this, and the old one is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct AcceptedLink {
    /// Interface index; 0 before there was a frame.
    pub device: u32,
    /// The first four bytes of the address, as a word in the machine's byte order.
    pub high: u32,
    /// Its last two bytes, alike.
    pub low: u32,
}

impl AcceptedLink {
    /// None yet.
    pub(crate) const NONE: Self = Self { device: 0, high: 0, low: 0 };

    /// A frame with `destination` at `device`.
    #[inline(always)]
    #[must_use]
    pub const fn new(device: u32, destination: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = destination;
        let (high, low) = (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]));
        Self { device, high, low: low as u32 }
    }
}

/// The host's kernel around the walk.
pub trait Host<A: Address> {
    /// Whether `frame`, which has arrived by a network device, is for this node by its destination link
    /// address. Switches flood frames for other hosts, and devices in promiscuous mode hand them on.
    fn is_for_this_node<P: Packet + ?Sized>(
        &self,
        frame: &mut P,
        accepted: &mut AcceptedLink,
    ) -> bool;
    /// The time.
    fn now(&self) -> Ticks;
    /// Whether packets of flows that are not known here are left to the programs of another release, which is taking
    /// over.
    fn hands_over(&self) -> bool;
    /// The route of a packet that came by this device, from `source` to `destination`.
    fn fib_lookup(&self, source: &A, destination: &A, purpose: Use) -> FibResult;
    /// Sets `own` to the address of this node that packets from `source` to `destination` get as their source where they
    /// leave by `device`, to which [`Use::Source`] has just found the route; unspecified if there is none.
    fn source_address(&self, source: &A, destination: &A, device: u32, own: &mut A);
    /// Whether a packet that leaves is this node's own: it came in by no device, and the node's processes are balanced.
    fn is_own_packet(&self) -> bool;
    /// Whether the packet is at `device`.
    fn is_at(&self, device: u32) -> bool;
    /// The source address of the device that the packet is at; unspecified if it has none.
    fn own_address(&self) -> A;
    /// Whether `limit` allows one time more; it is then counted.
    fn allow(&self, limit: RateLimit) -> bool;
    /// Whether a local socket has, or listens for, packets of `tuple`.
    fn socket_exists(&self, tuple: &Tuple<A>) -> bool;
}
