//! The seams of `lb_ebpf::tables`, over BPF maps and helpers.

use core::arch::asm;
use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::address::Tuple;
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::outcome::Outcome;
use lb_common::service::{AddressRow, Frontend, FrontendRow};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;
use lb_ebpf::balance::Flows;
use lb_ebpf::packet::{Packet, Unwritable};
use lb_ebpf::tables::{Connections, Memories, Node, Refusal, Route, Table, Tables};

use super::answers;
use super::features;
use super::hold;
use super::maps::{DEVICES, FILTER, FLOWS, FamilyMaps, OUTCOMES, RangeOf, SETTINGS, SLOTS};
use super::route::{self, CachedHop};
use super::socket;

/// `EEXIST`, as the update helper returns it.
const EXISTS: i32 = -17;

/// What a program knows beside its packet.
pub struct Kernel {
    /// The program's context, for helpers that ask for it.
    pub context: *mut c_void,
    /// Interface index of the device the packet is at.
    pub device: u32,
    /// Nanoseconds since boot, once they have been asked for; 0 before.
    clock: Cell<u64>,
    /// Whether a route that had to be looked up anew may be used at once, with the kernel resolving
    /// the neighbour; XDP cannot and leaves that packet to TC.
    pub resolves: bool,
}

impl Kernel {
    /// What is known at the start of a program run.
    #[inline(always)]
    pub const fn new(context: *mut c_void, device: u32, resolves: bool) -> Self {
        Self { context, device, clock: Cell::new(0), resolves }
    }

    /// Nanoseconds since boot, to the last timer interrupt: a tenth of the cost of the exact clock,
    /// which older kernels have alone.
    /// It is read once per program run, and not at all for a packet of no connection.
    #[inline(always)]
    pub fn nanoseconds(&self) -> u64 {
        if self.clock.get() == 0 {
            // SAFETY: both helpers take nothing and read a clock, of the same beginning.
            self.clock.set(unsafe {
                if features::has_coarse_clock() {
                    bpf_ktime_get_coarse_ns()
                } else {
                    bpf_ktime_get_ns()
                }
            });
        }
        self.clock.get()
    }
}

/// Room for this program run's walk.
#[inline(always)]
pub fn flows<'a>() -> Option<&'a mut Flows> {
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
    // CPU do not interrupt each other. It is asked for once per run.
    FLOWS.get_ptr_mut(0).map(|flows| unsafe { &mut *flows })
}

/// Counts how a walk ended.
#[inline(always)]
pub fn count(outcome: Outcome) {
    if let Some(times) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: the pointer is to this CPU's own value, which no other program run touches
        // meanwhile: programs of one CPU do not interrupt each other.
        unsafe { *times += 1 };
    }
}

/// Counts how a process's call ended. Processes are interrupted by packets, which count without a
/// lock.
#[inline(always)]
pub fn count_call(outcome: Outcome) {
    if let Some(times) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: the pointer is to this CPU's own value, aligned to its size.
        unsafe { increment(times) };
    }
}

/// Adds one in a single instruction, which no interrupt cuts in two. The compiler has none of its own
/// for this target.
///
/// # Safety
/// `counter` must be good for reading and writing, and aligned.
#[inline(always)]
unsafe fn increment(counter: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1_u64,
            options(nostack, preserves_flags),
        );
    }
}

impl<A: FamilyMaps> Tables<A> for Kernel {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        let row = A::FRONTENDS.get_ptr(frontend)?;
        // SAFETY: the kernel keeps the element readable until the program ends; the agent replaces
        // rows by whole elements, so the copy is of one row.
        Some(unsafe { *row })
    }

    #[inline(always)]
    fn address(&self, address: &A) -> Option<AddressRow> {
        // SAFETY: as in `frontend`.
        A::ADDRESSES.get_ptr(address).map(|row| unsafe { *row })
    }

    #[inline(always)]
    fn may_be_service(&self, address: &A) -> bool {
        SETTINGS.get(0).is_some_and(|settings| A::of_services(settings).holds(address))
    }

    #[inline(always)]
    fn allows(&self, client: &SourceRange<A>) -> bool {
        // SAFETY: a source range is the length of a prefix and then a `RangeOf`, without padding, as
        // `layout` proves; the key's alignment is 1.
        let key = unsafe { &*ptr::from_ref(client).cast::<Key<RangeOf<A>>>() };
        A::SOURCE_RANGES.get(key).is_some()
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
    fn may_concern(&self, position: Position) -> bool {
        FILTER.get(position.word).is_some_and(|word| word & position.mask != 0)
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        SETTINGS.get(0).copied().unwrap_or_else(Settings::nothing)
    }
}

/// Calls `$method` on the map that `$table` names.
macro_rules! on {
    ($table:expr, $method:ident($($argument:expr),*)) => {
        match $table {
            Table::Established => A::CONNECTIONS.$method($($argument),*),
            Table::HalfOpen => A::HALF_OPEN.$method($($argument),*),
        }
    };
}

impl<A: FamilyMaps> Connections<A> for Kernel {
    #[inline(always)]
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let Some(found) = on!(table, get_ptr_mut(tuple)) else { return false };
        let now = Node::<A>::now(self);
        // SAFETY: the kernel keeps the element readable until the program ends. Another CPU may
        // write `state` or `last_seen` meanwhile: whole aligned words, any value of which is good.
        unsafe {
            if (*found).last_seen != now {
                (*found).last_seen = now;
            }
            ptr::copy_nonoverlapping(found, entry, 1);
        }
        true
    }

    #[inline(always)]
    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let Some(found) = on!(table, get_ptr(tuple)) else { return false };
        // SAFETY: as in `see`.
        unsafe { ptr::copy_nonoverlapping(found, entry, 1) };
        true
    }

    #[inline(always)]
    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool {
        // SAFETY: as in `see`.
        on!(table, get_ptr(tuple)).is_some_and(|found| unsafe { (*found).rewritten == *rewritten })
    }

    #[inline(always)]
    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal> {
        on!(table, insert(tuple, entry, u64::from(BPF_NOEXIST))).map_err(|error| match error {
            EXISTS => Refusal::Exists,
            _ => Refusal::Full,
        })
    }

    #[inline(always)]
    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State) {
        if let Some(entry) = on!(table, get_ptr_mut(tuple)) {
            // SAFETY: as in `see`; this is the one byte that is written.
            unsafe { (*entry).state = state };
        }
    }

    #[inline(always)]
    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        // It may be gone already: then there is nothing to do.
        let _gone = on!(table, remove(tuple));
    }

    #[inline(always)]
    fn count_connection(&self, backend: BackendId) {
        if let Some(traffic) = A::TRAFFIC.get_ptr_mut(backend.0) {
            // SAFETY: this CPU's own value, as in `count_call`: processes begin flows, too.
            unsafe { increment(&raw mut (*traffic).connections) };
        }
    }

    #[inline(always)]
    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        if let Some(traffic) = A::TRAFFIC.get_ptr_mut(backend.0) {
            // SAFETY: this CPU's own value, as in `count`.
            unsafe {
                if reply {
                    (*traffic).reply_packets += 1;
                    (*traffic).reply_bytes += bytes;
                } else {
                    (*traffic).packets += 1;
                    (*traffic).bytes += bytes;
                }
            }
        }
    }
}

impl<A: FamilyMaps> Memories<A> for Kernel {
    #[inline(always)]
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        // SAFETY: the kernel keeps the element readable until the program ends. Another CPU may
        // replace it meanwhile by a new element, never within this one.
        A::AFFINITY.get_ptr(client).map(|affinity| unsafe { *affinity })
    }

    #[inline(always)]
    fn keep_affinity(&self, client: &Client<A>, affinity: &Affinity, instead: bool) -> bool {
        let flags = if instead { BPF_ANY } else { BPF_NOEXIST };
        A::AFFINITY.insert(client, affinity, u64::from(flags)).is_ok()
    }

    #[inline(always)]
    fn first_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        let Some(found) = A::FRAGMENTS.get_ptr(packet) else { return false };
        // SAFETY: as in `affinity`.
        unsafe { ptr::copy_nonoverlapping(found, first, 1) };
        true
    }

    #[inline(always)]
    fn forget_fragment(&self, packet: &Fragmented<A>) {
        // It may have given way already.
        let _gone = A::FRAGMENTS.remove(packet);
    }

    #[inline(always)]
    fn hold<P: Packet + ?Sized>(&self, held: &HeldFragment<A>, frame: &mut P) -> bool {
        hold::keep(self, held, frame.length())
    }

    #[inline(always)]
    fn release<P: Packet + ?Sized>(
        &self,
        held: &mut HeldFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), Unwritable> {
        hold::release(self, held, count, frame.length())
    }

    #[inline(always)]
    fn keep_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        // Refused, the later fragments are counted as lost when they come.
        let _refused = A::FRAGMENTS.insert(packet, first, u64::from(BPF_ANY));
    }
}

impl<A: FamilyMaps> Node<A> for Kernel {
    #[inline(always)]
    fn now(&self) -> Ticks {
        Ticks::from_nanoseconds(self.nanoseconds())
    }

    #[inline(always)]
    fn own_address(&self, device: u32) -> A {
        // SAFETY: the kernel keeps the element readable until the program ends.
        DEVICES.get_ptr(&device).map_or(A::zeroed(), |row| unsafe { A::of_device(&*row) })
    }

    #[inline(always)]
    fn here(&self) -> A {
        self.own_address(self.device)
    }

    #[inline(always)]
    fn may_answer(&self) -> bool {
        answers::may_give(self)
    }

    #[inline(always)]
    fn route(&self, destination: &A) -> Route {
        let Some(cached) = A::NEXT_HOPS.get_ptr_mut(route::position(destination)) else {
            return Route::Unknown;
        };
        // SAFETY: this CPU's own value, as in `count`; no other reference to it exists.
        let cached: &mut CachedHop<A> = unsafe { &mut *cached };
        route::to(self, destination, cached)
    }

    #[inline(always)]
    fn has_socket(&self, tuple: &Tuple<A>) -> bool {
        socket::exists(self, tuple)
    }
}
