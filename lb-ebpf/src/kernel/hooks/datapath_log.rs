//! The datapath's own log (`weir run --datapath-log`): at debug one line a walk with its outcome, at trace
//! each step as well. The programs exist twice, with the log and without; the agent loads one or the
//! other, so without it the log costs nothing.
//!
//! Lines are numbers, in the order that the agent's `datapath_log` module has them in: it makes words of
//! them. Steps are collected during the walk and logged after it, where the BPF stack is empty again.

use core::ptr::{self, read_volatile, write_volatile};

use aya_log_ebpf::{debug, trace};
use lb_common::address::{Address, Family, Tuple, V4, V6};
use lb_common::outcome::Outcome;
use lb_ebpf::hook::{Hook, Verdict, WalkResult};
use lb_ebpf::packet::Packet;
use lb_ebpf::trace::{Step, Summary, Traced, Tracer};
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::wire::family;

use crate::kernel::context::{Context, count};
use crate::kernel::maps::LOG_SCRATCH;
use crate::kernel::values::{LOGGED_STEPS, LogScratch};
use crate::kernel::verifier;

/// Whether the steps are logged, too; 0 or 1. Set by the agent before it loads the programs.
#[unsafe(no_mangle)]
static LOG_STEPS: u32 = 0;

/// Walks that a CPU logs at most in one period of 2^30 ns.
const WALKS_PER_PERIOD: u32 = 100;

/// A walk with the log or without.
pub trait DatapathLog {
    /// Whether the walk's outcome is counted with its log, and the one returned means nothing.
    const COUNTS: bool;

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
    const COUNTS: bool = false;

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
    const COUNTS: bool = true;

    #[inline(always)]
    fn walk<P: Packet>(
        packet: &mut P,
        context: &Context,
        hook: Hook,
        scratch: &mut Scratch,
    ) -> WalkResult {
        let dropped = WalkResult { outcome: Outcome::PassedLeftToTc, verdict: Verdict::Drop };
        let Some(log) = LOG_SCRATCH.get_ptr_mut(0) else { return dropped };
        let family = match family(packet) {
            Some(Family::V4) => 4,
            Some(Family::V6) => 6,
            None => 0,
        };
        // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
        // CPU do not interrupt each other. Recorder and these lines take turns.
        unsafe {
            (*log).count = 0;
            write_volatile(&raw mut (*log).family, family);
        }
        let world = Traced { world: context, tracer: Recorder { log } };
        let result = walk(packet, &world, hook, scratch);
        // What is needed from here on is read back from the map: the verifier then no longer knows how
        // the walk ended, and walks through the rest once instead of once for each end.
        // SAFETY: as above.
        unsafe {
            write_volatile(&raw mut (*log).outcome, result.outcome as u32);
            write_volatile(
                &raw mut (*log).verdict,
                [
                    verifier::written(number(&result.verdict)),
                    verifier::device_of(&result.verdict, 0),
                ],
            );
        }
        WalkResult { verdict: after_walk(context, hook, scratch, log), ..dropped }
    }
}

/// Counts and logs what `log` says of the walk; returns its verdict.
#[inline(always)]
fn after_walk(context: &Context, hook: Hook, scratch: &Scratch, log: *mut LogScratch) -> Verdict {
    // SAFETY: as in `On::walk`; the walk is over, so no other reference to the value exists.
    let log = unsafe { &mut *log };
    // SAFETY: plain reads of the value.
    let (outcome, family) =
        unsafe { (read_volatile(&raw const log.outcome), read_volatile(&raw const log.family)) };
    count(outcome);
    if is_allowed(log, context) {
        log.hook = [hook.point as u32, hook.class as u32];
        match family {
            4 => log_v4(context, scratch.tuple_v4(), log),
            6 => log_v6(context, scratch.tuple_v6(), log),
            _ => log_other(context, log),
        }
        log.suppressed = 0;
        // SAFETY: a plain read of a constant that nothing writes once the program is loaded.
        if unsafe { read_volatile(&raw const LOG_STEPS) } != 0 {
            log_steps(context, log);
        }
    }
    // SAFETY: a plain read of the value.
    let [verdict, device] = unsafe { read_volatile(&raw const log.verdict) };
    match verdict {
        0 => Verdict::Pass,
        2 => Verdict::Redirect(device),
        3 => Verdict::RedirectNeigh(device),
        4 => Verdict::Tx,
        5 => Verdict::Deliver(device),
        _ => Verdict::Drop,
    }
}

/// Collects the steps of a walk.
struct Recorder {
    log: *mut LogScratch,
}

impl<A: Address> Tracer<A> for Recorder {
    #[inline(always)]
    fn step(&self, step: Step<'_, A>) {
        let log = self.log;
        // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one
        // CPU do not interrupt each other. The index is below the array's length. There is no branch
        // here: each would double what the verifier walks through.
        unsafe {
            let count = read_volatile(&raw const (*log).count);
            let index = (count & (LOGGED_STEPS as u32 - 1)) as usize;
            let steps = (&raw mut (*log).steps).cast::<Summary>();
            ptr::write(steps.add(index), step.summary());
            (*log).count = count.wrapping_add(1);
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

#[inline(always)]
const fn number(verdict: &Verdict) -> u32 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Drop => 1,
        Verdict::Redirect(_) => 2,
        Verdict::RedirectNeigh(_) => 3,
        Verdict::Tx => 4,
        Verdict::Deliver(_) => 5,
    }
}

#[inline(never)]
fn log_v4(context: &Context, tuple: &Tuple<V4>, log: &LogScratch) {
    let ([point, class], [verdict, to]) = (log.hook, log.verdict);
    debug!(
        context,
        "walk {} {} {} {} {} {} {} {:i} {} {:i} {} {}",
        point,
        class,
        context.device,
        log.outcome,
        verdict,
        to,
        log.suppressed,
        u32::from_be_bytes(tuple.source.0),
        tuple.source_port.number(),
        u32::from_be_bytes(tuple.destination.0),
        tuple.destination_port.number(),
        tuple.protocol.0,
    );
}

#[inline(never)]
fn log_v6(context: &Context, tuple: &Tuple<V6>, log: &LogScratch) {
    let ([point, class], [verdict, to]) = (log.hook, log.verdict);
    debug!(
        context,
        "walk {} {} {} {} {} {} {} {:i} {} {:i} {} {}",
        point,
        class,
        context.device,
        log.outcome,
        verdict,
        to,
        log.suppressed,
        tuple.source.0,
        tuple.source_port.number(),
        tuple.destination.0,
        tuple.destination_port.number(),
        tuple.protocol.0,
    );
}

#[inline(never)]
fn log_other(context: &Context, log: &LogScratch) {
    let ([point, class], [verdict, to]) = (log.hook, log.verdict);
    debug!(
        context,
        "walk {} {} {} {} {} {} {}",
        point,
        class,
        context.device,
        log.outcome,
        verdict,
        to,
        log.suppressed,
    );
}

/// All steps in one line: a line each would cost the verifier a million instructions.
#[inline(never)]
fn log_steps(context: &Context, log: &LogScratch) {
    const BYTES: usize = LOGGED_STEPS * size_of::<Summary>();
    // SAFETY: steps are three numbers each, without padding, and the array has as many bytes.
    let steps: &[u8; BYTES] = unsafe { &*(&raw const log.steps).cast() };
    trace!(context, "steps {} {:x}", log.count, &steps[..]);
}
