//! Wrappers and floors, for XDP and TC alike.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_xdp_adjust_head};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, ProgramArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::address::{Address, Ports, Protocol, Tuple, V4, V6};
use lb_ebpf::bench::shared::{HEADERS, LISTED_FLOWS, ListedFlow, Series, Word};

use super::packet_access;

/// What is going on, and what came of it.
#[map]
static SERIES: Array<Series> = Array::with_max_entries(1, 0);
/// The XDP program under test.
#[map]
static XDP_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The same of one that takes frames in several buffers, as a program array wants those alone.
#[map]
static XDP_FRAGS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The flows of a series that is listed, in the order in which they are measured: read one after the
/// other, they cost nearly nothing.
#[map]
static FLOWS: Array<ListedFlow> = Array::with_max_entries(LISTED_FLOWS, BPF_F_MMAPABLE);
/// The TC program under test.
#[map]
static TC_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Entries of the tables that floors look packets up in.
const ENTRIES: u32 = 1 << 16;

#[map]
static FIRST_V4: HashMap<Tuple<V4>, u64> = HashMap::with_max_entries(ENTRIES, 0);
#[map]
static SECOND_V4: HashMap<Tuple<V4>, u64> = HashMap::with_max_entries(ENTRIES, 0);
#[map]
static FIRST_V6: HashMap<Tuple<V6>, u64> = HashMap::with_max_entries(ENTRIES, 0);
#[map]
static SECOND_V6: HashMap<Tuple<V6>, u64> = HashMap::with_max_entries(ENTRIES, 0);

/// Gives the XDP program under test its packet anew.
#[xdp]
pub fn repeat_xdp(context: XdpContext) -> u32 {
    if restore_length(&context).is_some() && restore(&mut Frame(&context)).is_some() {
        // SAFETY: nothing here has a destructor to be left out.
        unsafe { XDP_PROGRAM.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// The same for a program that takes frames in several buffers.
#[xdp(frags)]
pub fn repeat_xdp_frags(context: XdpContext) -> u32 {
    if restore_length(&context).is_some() && restore(&mut Frame(&context)).is_some() {
        // SAFETY: as in `repeat_xdp`.
        unsafe { XDP_FRAGS.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Gives the TC program under test its packet anew.
#[classifier]
pub fn repeat_tc(context: TcContext) -> i32 {
    if restore(&mut Skb(&context)).is_some() {
        // SAFETY: as in `repeat_xdp`.
        unsafe { TC_PROGRAM.tail_call(&context, 0) };
    }
    TC_ACT_UNSPEC
}

/// Sends the frame back as it came: what a device can do at most.
#[xdp]
pub fn send_xdp(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Frames that have arrived at the far end of a link.
#[map]
static ARRIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Counts frames and drops them: for the far end of a link.
#[xdp]
pub fn count_xdp(_context: XdpContext) -> u32 {
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's, and programs of its softirqs do not interrupt each other.
        unsafe { *arrived += 1 };
    }
    xdp_action::XDP_DROP
}

/// Lets every frame pass: a veth device takes part in XDP only with a program of its own.
#[xdp]
pub fn pass_xdp(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The cheapest XDP program there is.
#[xdp]
pub fn drop_xdp(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The cheapest TC program there is.
#[classifier]
pub fn drop_tc(_context: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// Looks the packet's tuple up in one table.
#[xdp]
pub fn one_look_up_xdp(context: XdpContext) -> u32 {
    look_up(&mut Frame(&context), 1);
    xdp_action::XDP_TX
}

/// Looks the packet's tuple up in two tables.
#[xdp]
pub fn two_look_ups_xdp(context: XdpContext) -> u32 {
    look_up(&mut Frame(&context), 2);
    xdp_action::XDP_TX
}

/// Looks the packet's tuple up in one table.
#[classifier]
pub fn one_look_up_tc(context: TcContext) -> i32 {
    look_up(&mut Skb(&context), 1);
    TC_ACT_UNSPEC
}

/// Looks the packet's tuple up in two tables.
#[classifier]
pub fn two_look_ups_tc(context: TcContext) -> i32 {
    look_up(&mut Skb(&context), 2);
    TC_ACT_UNSPEC
}

/// The bytes of a frame.
trait Bytes {
    fn at<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;
}

struct Frame<'a>(&'a XdpContext);

impl Bytes for Frame<'_> {
    #[inline(always)]
    fn at<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: the context is this program's, and the borrow of `self` is the only one.
        unsafe { packet_access::of_frame(self.0.ctx, offset) }
    }
}

struct Skb<'a>(&'a TcContext);

impl Bytes for Skb<'_> {
    #[inline(always)]
    fn at<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: as for `Frame`.
        unsafe { packet_access::of_skb(self.0.as_ptr().cast(), offset) }
    }
}

/// Takes away what the last repeat put in front of the frame.
#[inline(always)]
fn restore_length(context: &XdpContext) -> Option<()> {
    let series = SERIES.get_ptr(0)?;
    // SAFETY: as in `restore`.
    let length = unsafe { (*series).length };
    let more = (context.data_end() - context.data()) as u32;
    if more != length {
        // SAFETY: the context is this program's, and no reference into the frame is alive.
        let result = unsafe { bpf_xdp_adjust_head(context.ctx, more.wrapping_sub(length) as i32) };
        return (result == 0).then_some(());
    }
    Some(())
}

/// Makes the packet the next of the series.
#[inline(always)]
fn restore<B: Bytes>(frame: &mut B) -> Option<()> {
    let series = SERIES.get_ptr_mut(0)?;
    // SAFETY: the harness runs one program at a time, and writes while none runs.
    let series = unsafe { &mut *series };
    let bytes = frame.at::<HEADERS>(0)?.as_chunks_mut::<8>().0;
    for (bytes, word) in bytes.iter_mut().zip(series.headers) {
        *bytes = word.to_ne_bytes();
    }
    let repeat = series.next;
    let flow = series.spread.flow(repeat);
    if series.source_at == 0 {
        for Word { at, bytes } in series.spread.words(flow) {
            *frame.at::<2>(at)? = bytes;
        }
    } else {
        let listed = *FLOWS.get(flow)?;
        *frame.at::<2>((series.source_at & 63) as usize)? = listed.source;
        let at = (series.destination_at & 63) as usize;
        *frame.at::<2>(at)? = listed.destination;
        *frame.at::<4>(at + 2)? = listed.ports;
    }
    series.next = repeat + 1;
    if repeat == series.first {
        series.began = now();
    }
    if repeat == series.last {
        series.ended = now();
    }
    Some(())
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_ns() }
}

/// Looks the packet's tuple up in one table or two, and counts what is not found.
#[inline(always)]
fn look_up<B: Bytes>(frame: &mut B, tables: u32) {
    let found = match frame.at::<14>(0) {
        Some([.., 0x08, 0x00]) => {
            v4(frame).map(|tuple| find(&FIRST_V4, &SECOND_V4, &tuple, tables))
        }
        Some([.., 0x86, 0xdd]) => {
            v6(frame).map(|tuple| find(&FIRST_V6, &SECOND_V6, &tuple, tables))
        }
        Some(_) | None => None,
    };
    if found != Some(true)
        && let Some(series) = SERIES.get_ptr_mut(0)
    {
        // SAFETY: as in `restore`.
        unsafe { (*series).misses += 1 };
    }
}

#[inline(always)]
fn find<K>(first: &HashMap<K, u64>, second: &HashMap<K, u64>, key: &K, tables: u32) -> bool {
    // SAFETY: the kernel keeps elements readable until the program ends, and nobody writes.
    let found =
        |table: &HashMap<K, u64>| table.get_ptr(key).is_some_and(|value| unsafe { *value } != 0);
    found(first) && (tables < 2 || found(second))
}

#[inline(always)]
fn v4<B: Bytes>(frame: &mut B) -> Option<Tuple<V4>> {
    let [_, _, _, _, _, _, _, _, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, p2, p3] =
        *frame.at::<24>(14)?;
    let source = V4([s0, s1, s2, s3]);
    let destination = V4([d0, d1, d2, d3]);
    Some(tuple(source, destination, Ports([p0, p1, p2, p3]), protocol))
}

#[inline(always)]
fn v6<B: Bytes>(frame: &mut B) -> Option<Tuple<V6>> {
    let [_, _, _, _, _, _, next_header, _, rest @ ..] = frame.at::<44>(14)?;
    let rest: &[u8; 36] = rest;
    let source = V6(copied(rest.first_chunk()?));
    let destination = V6(copied(rest.get(16..32)?.first_chunk()?));
    Some(tuple(source, destination, Ports(*rest.last_chunk()?), *next_header))
}

/// `address`, copied in words: the BPF compiler copies bytes one by one.
#[inline(always)]
const fn copied(address: &[u8; 16]) -> [u8; 16] {
    u128::from_ne_bytes(*address).to_ne_bytes()
}

#[inline(always)]
fn tuple<A: Address>(source: A, destination: A, ports: Ports, protocol: u8) -> Tuple<A>
where
    Tuple<A>: bytemuck::Pod,
{
    let mut tuple =
        Tuple::new(source, ports.source(), destination, ports.destination(), Protocol(0));
    tuple.set_protocol(Protocol(protocol));
    tuple
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// As the programs under test are licensed.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
