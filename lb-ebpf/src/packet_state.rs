//! The data of a packet's walk: its headers, the conntrack entry that decides about it, and scratch
//! space for what the walk works out. All of it but [`PacketState::accepted`] is overwritten by the next walk.

use lb_common::address::{Address, Port, Ports, Protocol, Tuple, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{Frontend, ServiceId};
use lb_common::snat::Rows;
use lb_common::source_range::SourceRange;

use crate::checksum::Difference;
use crate::hook::{Verdict, WalkResult};
use crate::packet::COPIED;
use crate::wire::icmp::Quote;
use crate::wire::{Extent, Headers};
use crate::world::{AcceptedLink, Link, NextHop};

/// Scratch space for a walk of either family. In the kernel it is a map's value: the BPF stack is 512
/// bytes, of which an IPv6 entry would be an eighth, and allows no access that is not aligned.
pub struct Scratch {
    pub(crate) v4: PacketState<V4>,
    pub(crate) v6: PacketState<V6>,
}

impl Scratch {
    /// Scratch space that no walk has used.
    #[must_use]
    pub fn new() -> Self {
        Self { v4: PacketState::new(), v6: PacketState::new() }
    }

    /// The tuple of the IPv4 packet that was walked last, as it arrived.
    #[inline(always)]
    #[must_use]
    pub const fn tuple_v4(&self) -> &Tuple<V4> {
        &self.v4.headers.tuple
    }

    /// The tuple of the IPv6 packet that was walked last, as it arrived.
    #[inline(always)]
    #[must_use]
    pub const fn tuple_v6(&self) -> &Tuple<V6> {
        &self.v6.headers.tuple
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The table that an entry was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum FoundIn {
    /// In none: the packet begins a flow. Its backend is selected before its entries are made.
    Neither,
    /// In the table of established flows.
    Established,
    /// In the table of half-open flows.
    HalfOpen,
}

/// A packet on its walk, and the conntrack entry that decides about it.
pub(crate) struct PacketState<A: Address> {
    /// The packet's headers.
    pub headers: Headers<A>,
    /// The complete action for it.
    pub entry: ConntrackEntry<A>,
    /// The frontend it was sent to.
    pub frontend: Frontend<A>,
    /// The key of the flow's other entry: for a client's packet, the reply tuple.
    pub reply_tuple: Tuple<A>,
    /// That other entry.
    pub reply_entry: ConntrackEntry<A>,
    /// The backend selected for a new flow.
    pub backend: Backend<A>,
    /// The search for a new flow's source port.
    pub search: PortSearch,
    /// What backend selection works with.
    pub selection: Selection<A>,
    /// The tuple of the packet that an ICMP error quotes.
    pub quoted: Tuple<A>,
    /// Where in the error that packet stands.
    pub quote: Quote,
    /// The packet that a fragment belongs to.
    pub fragmented: Fragmented<A>,
    /// How much of that packet it is.
    pub extent: Extent,
    /// A fragment that is queued.
    pub queued: QueuedFragment<A>,
    /// What is known from its first fragment.
    pub first: FirstFragment,
    /// The ICMP message to send.
    pub icmp: IcmpBuffer,
    /// MTU of the route to the packet's new destination, in bytes; 0 if not known.
    pub mtu: u32,
    /// The link address of the last frame that was for this node: the one thing that a walk leaves to the
    /// next.
    pub accepted: AcceptedLink,
    /// Link addresses to leave with, if `has_link`.
    pub link: Link,
    /// Interface index of the egress device, if the packet leaves at once. This and the next are kept
    /// apart from [`Verdict`], which holds bytes without a value, as the verifier notices.
    pub device: u32,
    /// Whether its link addresses are set.
    pub has_link: bool,
    /// Whether it may be a client's, of a flow or to begin one. Kept here, where the verifier forgets it: it
    /// would walk all that follows once for each of its values.
    pub to_service: bool,
    /// Where `entry` was found.
    pub found_in: FoundIn,
    /// It leaves by another device than the stack has routed it to, or is given to the stack by another one.
    pub is_rerouted: bool,
    /// Its way is still to be found, to or from this node itself.
    pub is_unrouted: bool,
    /// The conntrack table had no room for the flow.
    pub conntrack_full: bool,
}

impl<A: Address> PacketState<A> {
    fn new() -> Self {
        let entry = ConntrackEntry::empty();
        Self {
            headers: Headers::empty(),
            entry,
            frontend: Frontend::new(A::zeroed(), Port::new(0), Protocol(0)),
            reply_tuple: entry.rewritten,
            reply_entry: entry,
            backend: Backend::empty(),
            search: PortSearch::default(),
            selection: Selection::new(),
            quoted: entry.rewritten,
            quote: Quote::default(),
            fragmented: Fragmented::empty(),
            extent: Extent::default(),
            queued: QueuedFragment { packet: Fragmented::empty(), number: 0 },
            first: FirstFragment {
                ports: Ports([0; 4]),
                seen: Ticks(0),
                protocol: Protocol(0),
                queued: 0,
                zeroes: 0,
                received: 0,
                total: 0,
            },
            icmp: IcmpBuffer::new(),
            mtu: 0,
            accepted: AcceptedLink::NONE,
            link: Link([0; 3]),
            device: 0,
            has_link: false,
            found_in: FoundIn::Neither,
            to_service: false,
            is_rerouted: false,
            is_unrouted: false,
            conntrack_full: false,
        }
    }

    /// The result of a walk that ended with `outcome`.
    #[inline(always)]
    pub fn result(&self, outcome: Outcome) -> WalkResult {
        match outcome.disposition() {
            Disposition::Translated => WalkResult { outcome, verdict: self.verdict() },
            Disposition::Passed
            | Disposition::IcmpReplied
            | Disposition::Queued
            | Disposition::Dropped => outcome.into(),
        }
    }

    /// Whether the packet changes the state of its flow. Of an established one, few do.
    #[inline(always)]
    pub(crate) const fn changes_flow(&self) -> bool {
        let (flags, state) = (self.headers.flags, self.entry.state);
        match self.found_in {
            FoundIn::Neither => false,
            FoundIn::HalfOpen => true,
            FoundIn::Established => {
                flags.closes()
                    || flags.resets()
                    || state.has(State::RST)
                    || self.entry.is_reply() && !state.has(State::REPLIED)
            }
        }
    }

    /// Takes down where the packet goes.
    #[inline(always)]
    pub(crate) const fn set_next_hop(&mut self, next_hop: &NextHop) {
        self.mtu = next_hop.mtu;
        self.device = next_hop.device;
        self.has_link = false;
        if let Some(link) = next_hop.link {
            self.link = link;
            self.has_link = true;
        }
    }

    /// What the hook does with a translated packet.
    #[inline(always)]
    const fn verdict(&self) -> Verdict {
        if self.entry.is_from_host() && self.entry.is_reply() && self.is_rerouted {
            return Verdict::Deliver(self.device);
        }
        match (self.entry.is_snat() || self.is_rerouted, self.entry.is_hairpin()) {
            (true, _) if self.has_link => Verdict::Redirect(self.device),
            (true, _) => Verdict::RedirectNeigh(self.device),
            (false, true) => Verdict::Tx,
            (false, false) => Verdict::Pass,
        }
    }

    /// The outcome of a packet that was forwarded.
    #[inline(always)]
    pub fn outcome(&self) -> Outcome {
        let entry = &self.entry;
        match (entry.is_reply(), entry.is_snat(), entry.is_hairpin()) {
            (false, ..) if self.conntrack_full => Outcome::ForwardedConntrackFull,
            (false, ..) if entry.is_direct() => Outcome::ForwardedDirect,
            (true, ..) if entry.is_direct() => Outcome::RepliedDirect,
            (false, ..) if entry.is_from_host() => Outcome::ForwardedFromHost,
            (true, ..) if entry.is_from_host() => Outcome::RepliedToHost,
            (false, true, _) => Outcome::ForwardedSnat,
            (false, false, true) => Outcome::ForwardedHairpin,
            (false, false, false) => Outcome::Forwarded,
            (true, true, _) => Outcome::RepliedSnat,
            (true, false, true) => Outcome::RepliedHairpin,
            (true, false, false) => Outcome::Replied,
        }
    }
}

/// The search for a source port.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(crate) struct PortSearch {
    /// The flows that must have other ports.
    pub(crate) group: u32,
    /// Where it begins, or was left.
    pub(crate) start: u32,
    /// The rows that it looks at, once hints have not helped.
    pub(crate) rows: Rows,
}

/// What backend selection works with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Selection<A> {
    /// The client, where its Service port has session affinity.
    pub(crate) client: Client<A>,
    /// What that client had.
    pub(crate) affinity: Affinity,
    /// An address to look up among ranges.
    pub(crate) range: SourceRange<A>,
}

impl<A: Address> Selection<A> {
    pub(crate) fn new() -> Self {
        Self {
            client: Client { address: A::zeroed(), service: ServiceId(0) },
            affinity: Affinity { backend: BackendId(0), generation: 0, last_used: Ticks(0) },
            range: SourceRange::of(ServiceId(0), A::zeroed()),
        }
    }
}

/// An ICMP message in the making, from its IP header on.
#[repr(C, align(8))]
pub(crate) struct IcmpBuffer {
    /// The message, and zeroes behind its end, which do not change the checksum.
    pub bytes: [u8; COPIED],
}

impl IcmpBuffer {
    const fn new() -> Self {
        Self { bytes: [0; COPIED] }
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        for word in self.bytes.as_chunks_mut::<8>().0 {
            *word = 0u64.to_ne_bytes();
        }
    }

    /// The sum of all words from `first` on, a multiple of four.
    #[inline(always)]
    pub(crate) fn sum(&self, first: usize) -> Difference {
        let words = self.bytes.as_chunks::<4>().0.iter().skip(first / 4);
        words.fold(Difference::NONE, |sum, word| sum.plus(u32::from_ne_bytes(*word)))
    }
}
