//! The traits of `lb_ebpf::world`, over BPF maps and helpers.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, BPF_ANY, BPF_NOEXIST};
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::address::Tuple;
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::Ticks;
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, QueuedFragment};
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::snat::Rows;
use lb_common::source_range::SourceRange;
use lb_ebpf::packet::{Packet, WriteError};
use lb_ebpf::world::{
    AcceptedLink, AffinityTable, FibResult, Fragments, Host, RateLimit, Tables, Use,
};

use super::context::Context;
use super::maps::{DEVICES, FILTER, FamilyMaps, HANDOVER, SETTINGS, SLOTS};
use super::values::{CachedHop, RangeOf};
use super::{fib, fragment_queue, link_address, rate_limit, socket_lookup};

/// Whether packets of unknown flows are handed over to the programs of another release; 0 or 1. A global function, which
/// the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_handed_over() -> u32 {
    HANDOVER.get(0).map_or(0, |word| u32::from(*word != 0))
}

impl<A: FamilyMaps> Tables<A> for Context {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        let row = A::FRONTENDS.get_ptr(frontend)?;
        // SAFETY: the kernel keeps the element readable until the program ends; the agent replaces
        // rows by whole elements, so the copy is of one row.
        Some(unsafe { *row })
    }

    #[inline(always)]
    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        // SAFETY: as in `frontend`.
        A::IP_POLICY.get_ptr(address).map(|row| unsafe { *row })
    }

    #[inline(always)]
    fn in_service_ranges(&self, address: &A) -> bool {
        SETTINGS.get(0).is_some_and(|settings| A::of_services(settings).holds(address))
    }

    #[inline(always)]
    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        // SAFETY: a source range is the length of a prefix and then a `RangeOf`, without padding, as
        // `layout` proves; the key's alignment is 1.
        let key = unsafe { &*ptr::from_ref(source).cast::<Key<RangeOf<A>>>() };
        A::SRC_RANGES.get(key).is_some()
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> Option<BackendId> {
        SLOTS.get(index).map(|id| BackendId(*id))
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        let row = *A::BACKENDS.get(id.0)?;
        (row.generation != 0).then_some(row)
    }

    #[inline(always)]
    fn filter_matches(&self, position: Position) -> bool {
        FILTER.get(position.word).is_some_and(|word| position.is_in(*word))
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        SETTINGS.get(0).copied().unwrap_or_else(Settings::nothing)
    }

    #[inline(always)]
    fn node_address(&self) -> A {
        SETTINGS.get(0).map_or_else(A::zeroed, A::own)
    }

    #[inline(always)]
    fn has_default_route(&self) -> bool {
        SETTINGS.get(0).is_some_and(A::has_default_route)
    }

    #[inline(always)]
    fn routes_by_source(&self) -> bool {
        SETTINGS.get(0).is_some_and(Settings::routes_by_source)
    }

    #[inline(always)]
    fn snat_tier(&self, index: usize) -> Rows {
        let tier = SETTINGS.get(0).and_then(|settings| settings.snat_tiers.get(index));
        tier.copied().unwrap_or_default()
    }
}

impl<A: FamilyMaps> AffinityTable<A> for Context {
    #[inline(always)]
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        // SAFETY: the kernel keeps the element readable until the program ends. Another CPU may write
        // its words meanwhile, each as a whole: a backend with another one's generation is not eligible, or
        // is what the client has now.
        A::AFFINITY.get_ptr(client).map(|affinity| unsafe { *affinity })
    }

    #[inline(always)]
    fn set_affinity(&self, client: &Client<A>, affinity: &Affinity, overwrite: bool) -> bool {
        if overwrite && let Some(found) = A::AFFINITY.get_ptr_mut(client) {
            // In place: an insertion takes a new element first, for which a full map evicts another client.
            // SAFETY: as in `affinity`.
            unsafe { *found = *affinity };
            return true;
        }
        let flags = if overwrite { BPF_ANY } else { BPF_NOEXIST };
        A::AFFINITY.insert(client, affinity, u64::from(flags)).is_ok()
    }
}

impl<A: FamilyMaps> Fragments<A> for Context {
    #[inline(always)]
    fn lookup_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        let Some(found) = A::FRAGMENTS.get_ptr(packet) else { return false };
        // SAFETY: the kernel keeps the element readable until the program ends. Another CPU may replace it
        // meanwhile by a new element, never within this one.
        unsafe { ptr::copy_nonoverlapping(found, first, 1) };
        true
    }

    #[inline(always)]
    fn set_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        // Refused, the later fragments are counted as lost when they arrive.
        let _refused = A::FRAGMENTS.insert(packet, first, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn remove_fragment(&self, packet: &Fragmented<A>) {
        // The LRU map may have evicted it already.
        let _gone = A::FRAGMENTS.remove(packet);
    }

    #[inline(always)]
    fn enqueue<P: Packet + ?Sized>(&self, fragment: &QueuedFragment<A>, frame: &mut P) -> bool {
        fragment_queue::enqueue(self, fragment, frame.length())
    }

    #[inline(always)]
    fn release<P: Packet + ?Sized>(
        &self,
        fragment: &mut QueuedFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), WriteError> {
        fragment_queue::release(self, fragment, count, frame.length())
    }
}

impl<A: FamilyMaps> Host<A> for Context {
    #[inline(always)]
    fn is_for_this_node<P: Packet + ?Sized>(
        &self,
        frame: &mut P,
        accepted: &mut AcceptedLink,
    ) -> bool {
        if self.resolves {
            link_address::is_taken_by_stack(self)
        } else {
            link_address::is_own(self, frame, accepted)
        }
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        Ticks::from_nanoseconds(self.nanoseconds())
    }

    #[inline(always)]
    fn hands_over(&self) -> bool {
        is_handed_over() != 0
    }

    #[inline(always)]
    fn source_address(&self, source: &A, destination: &A, _: u32, own: &mut A) {
        if let Some(cached) = A::FIB_CACHE.get_ptr(fib::position(source, destination)) {
            // SAFETY: this CPU's own value, as in `count`; no other reference to it exists.
            *own = unsafe { (*cached).own };
        }
    }

    #[inline(always)]
    fn is_own_packet(&self) -> bool {
        // SAFETY: what leaves is seen at TC, where the context is a socket buffer; a plain read of it. The kernel notes
        // there by which device a packet has come (`skb_iif`, include/linux/skbuff.h).
        let came_by = unsafe { (*self.context.cast::<__sk_buff>()).ingress_ifindex };
        came_by == 0 && SETTINGS.get(0).is_some_and(|settings| settings.namespace != 0)
    }

    #[inline(always)]
    fn is_at(&self, device: u32) -> bool {
        self.device == device
    }

    #[inline(always)]
    fn own_address(&self) -> A {
        // SAFETY: the kernel keeps the element readable until the program ends.
        DEVICES.get_ptr(&self.device).map_or(A::zeroed(), |row| unsafe { A::of_device(&*row) })
    }

    #[inline(always)]
    fn allow(&self, limit: RateLimit) -> bool {
        rate_limit::allow(self, limit)
    }

    #[inline(always)]
    fn fib_lookup(&self, source: &A, destination: &A, purpose: Use) -> FibResult {
        let Some(cached) = A::FIB_CACHE.get_ptr_mut(fib::position(source, destination)) else {
            return FibResult::LeftToTc;
        };
        // SAFETY: this CPU's own value, as in `count`; no other reference to it exists.
        let cached: &mut CachedHop<A> = unsafe { &mut *cached };
        fib::lookup(self, (source, destination), purpose, cached)
    }

    #[inline(always)]
    fn socket_exists(&self, tuple: &Tuple<A>) -> bool {
        socket_lookup::exists(self, tuple)
    }
}
