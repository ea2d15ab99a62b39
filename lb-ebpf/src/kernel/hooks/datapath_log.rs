//! The datapath's own log (`weir run --datapath-log`): at debug one line a walk with its outcome, at trace
//! each step as well. The programs exist twice, with the log and without; the agent loads one or the
//! other, so without it the log costs nothing.
//!
//! Lines are numbers, in the order that the agent's `datapath_log` module has them in: it makes words of
//! them. Steps are collected during the walk and logged after it, where the BPF stack is empty again.

use core::cell::Cell;
use core::ptr::{self, read_volatile};

use aya_log_ebpf::{debug, trace};
use lb_common::address::{Address, Family, Tuple, V4, V6};
use lb_ebpf::hook::{Hook, Verdict, WalkResult};
use lb_ebpf::packet::Packet;
use lb_ebpf::trace::{Step, Summary, Traced, Tracer};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::wire::family;

use crate::kernel::context::Context;
use crate::kernel::maps::LOG_SCRATCH;
use crate::kernel::values::{LOGGED_STEPS, LogScratch};

/// Whether the steps are logged, too; 0 or 1. Set by the agent before it loads the programs.
#[unsafe(no_mangle)]
static LOG_STEPS: u32 = 0;

/// Walks that a CPU logs at most in one period of 2^30 ns.
const WALKS_PER_PERIOD: u32 = 100;

/// A walk with the log or without.
pub trait DatapathLog {
    /// Walks the packet.
    fn walk<P: Packet>(
        packet: &mut P,
        context: &Context,
        hook: Hook,
        scratch: &mut Scratch,
    ) -> WalkResult;
}

/// Without the log.
pub struct Off;

impl DatapathLog for Off {
    #[inline(always)]
    fn walk<P: Packet>(
        packet: &mut P,
        context: &Context,
        hook: Hook,
        scratch: &mut Scratch,
    ) -> WalkResult {
        walk(packet, context, hook, scratch)
    }
}

/// With the log.
pub struct On;

impl DatapathLog for On {
    #[inline(always)]
    fn walk<P: Packet>(
        packet: &mut P,
        context: &Context,
        hook: Hook,
        scratch: &mut Scratch,
    ) -> WalkResult {
        let family = family(packet);
        let Some(log) = LOG_SCRATCH.get_ptr_mut(0) else {
            return walk(packet, context, hook, scratch);
        };
        let tracer = Recorder { log: Cell::new(log) };
        tracer.begin();
        let world = Traced { world: context, tracer: &tracer };
        let result = walk(packet, &world, hook, scratch);
        // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
        // CPU do not interrupt each other. The walk is over, so no other reference to it exists.
        let log = unsafe { &mut *log };
        if is_allowed(log, context) {
            match family {
                Some(Family::V4) => log_v4(context, scratch.tuple_v4(), hook, &result),
                Some(Family::V6) => log_v6(context, scratch.tuple_v6(), hook, &result),
                None => log_other(context, hook, &result),
            }
            log_steps(context, log);
        }
        result
    }
}

/// Collects the steps of a walk.
struct Recorder {
    log: Cell<*mut LogScratch>,
}

impl Recorder {
    #[inline(always)]
    fn begin(&self) {
        // SAFETY: as in `step`.
        unsafe { (*self.log.get()).count = 0 };
    }
}

impl<A: Address> Tracer<A> for Recorder {
    #[inline(always)]
    fn step(&self, step: Step<'_, A>) {
        let log = self.log.get();
        // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
        // CPU do not interrupt each other. The index is below the array's length.
        unsafe {
            let count = read_volatile(&raw const (*log).count);
            if count < LOGGED_STEPS as u32 {
                let index = (count & (LOGGED_STEPS as u32 - 1)) as usize;
                let steps = (&raw mut (*log).steps).cast::<Summary>();
                ptr::write(steps.add(index), step.summary());
                (*log).count = count + 1;
            }
        }
    }
}

/// Whether one more walk may be logged in this period; it is then counted.
#[inline(always)]
fn is_allowed(log: &mut LogScratch, context: &Context) -> bool {
    let period = (context.nanoseconds() >> 30) as u32;
    if log.period != period {
        log.period = period;
        log.logged = 0;
    }
    if log.logged >= WALKS_PER_PERIOD {
        log.suppressed = log.suppressed.wrapping_add(1);
        return false;
    }
    log.logged += 1;
    true
}

/// The verdict's number, and the device of a redirect.
#[inline(always)]
fn verdict(result: &WalkResult) -> (u32, u32) {
    match result.verdict {
        Verdict::Pass => (0, 0),
        Verdict::Drop => (1, 0),
        Verdict::Redirect(device) => (2, device),
        Verdict::RedirectNeigh(device) => (3, device),
        Verdict::Tx => (4, 0),
    }
}

#[inline(never)]
fn log_v4(context: &Context, tuple: &Tuple<V4>, hook: Hook, result: &WalkResult) {
    let (verdict, to) = verdict(result);
    debug!(
        context,
        "walk {} {} {} {} {} {} {:i} {} {:i} {} {}",
        hook.point as u32,
        hook.class as u32,
        context.device,
        result.outcome as u32,
        verdict,
        to,
        u32::from_be_bytes(tuple.source.0),
        tuple.source_port.number(),
        u32::from_be_bytes(tuple.destination.0),
        tuple.destination_port.number(),
        tuple.protocol.0,
    );
}

#[inline(never)]
fn log_v6(context: &Context, tuple: &Tuple<V6>, hook: Hook, result: &WalkResult) {
    let (verdict, to) = verdict(result);
    debug!(
        context,
        "walk {} {} {} {} {} {} {:i} {} {:i} {} {}",
        hook.point as u32,
        hook.class as u32,
        context.device,
        result.outcome as u32,
        verdict,
        to,
        tuple.source.0,
        tuple.source_port.number(),
        tuple.destination.0,
        tuple.destination_port.number(),
        tuple.protocol.0,
    );
}

#[inline(never)]
fn log_other(context: &Context, hook: Hook, result: &WalkResult) {
    let (verdict, to) = verdict(result);
    debug!(
        context,
        "walk {} {} {} {} {} {}",
        hook.point as u32,
        hook.class as u32,
        context.device,
        result.outcome as u32,
        verdict,
        to,
    );
}

/// Logs the steps where they are asked for, and how many walks were not logged before.
#[inline(always)]
fn log_steps(context: &Context, log: &mut LogScratch) {
    if log.suppressed > 0 {
        log_suppressed(context, log.suppressed);
        log.suppressed = 0;
    }
    // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
    if unsafe { read_volatile(&raw const LOG_STEPS) } == 0 {
        return;
    }
    for index in 0..LOGGED_STEPS {
        if index as u32 >= log.count {
            break;
        }
        if let Some(step) = log.steps.get(index) {
            log_step(context, step);
        }
    }
}

#[inline(never)]
fn log_suppressed(context: &Context, walks: u32) {
    debug!(context, "suppressed {}", walks);
}

#[inline(never)]
fn log_step(context: &Context, step: &Summary) {
    trace!(context, "step {} {} {}", step.kind, step.found, step.value);
}
