//! TC: the full program, at ingress and egress of every device.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lb_common::conntrack::HookPoint;
use lb_common::maps::Successor;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::hook::{Hook, Verdict};
use lb_ebpf::packet::LINK_HEADER;

use super::datapath_log::{DatapathLog, Off, On};
use crate::kernel::context::{Context, count, scratch};
use crate::kernel::maps::{DEVICES, FIB_SCRATCH, SUCCESSORS};
use crate::kernel::skb::{Skb, push_link_header};
use crate::kernel::verifier;

/// The packet comes in by the device that it is redirected to.
const INGRESS: u64 = BPF_F_INGRESS as u64;

const FROM_POD: Hook =
    Hook { point: HookPoint::Ingress, class: SourceClass::Pod, can_pass_to_stack: true };
const FROM_NETWORK: Hook =
    Hook { point: HookPoint::Ingress, class: SourceClass::Network, can_pass_to_stack: true };
const TO_DEVICE: Hook =
    Hook { point: HookPoint::Egress, class: SourceClass::Host, can_pass_to_stack: true };

/// TC ingress of a pod-facing device.
#[classifier]
#[inline(always)]
pub fn from_pod(context: TcContext) -> i32 {
    run::<Off>(&context, FROM_POD)
}

/// TC ingress of a network-facing device.
#[classifier]
#[inline(always)]
pub fn from_network(context: TcContext) -> i32 {
    run::<Off>(&context, FROM_NETWORK)
}

/// TC egress of any device.
#[classifier]
#[inline(always)]
pub fn to_device(context: TcContext) -> i32 {
    run::<Off>(&context, TO_DEVICE)
}

/// [`from_pod`] with the datapath log.
#[classifier]
#[inline(always)]
pub fn from_pod_log(context: TcContext) -> i32 {
    run::<On>(&context, FROM_POD)
}

/// [`from_network`] with the datapath log.
#[classifier]
#[inline(always)]
pub fn from_network_log(context: TcContext) -> i32 {
    run::<On>(&context, FROM_NETWORK)
}

/// [`to_device`] with the datapath log.
#[classifier]
#[inline(always)]
pub fn to_device_log(context: TcContext) -> i32 {
    run::<On>(&context, TO_DEVICE)
}

/// TC ingress of a network-facing device whose packets have no link header. They get one, as the walk may send them out
/// of a device that needs it; the stack takes it off again (`bpf_skb_change_head` exists for this).
#[classifier]
#[inline(always)]
pub fn from_network_l3(context: TcContext) -> i32 {
    if push_link_header(context.skb.skb) { run::<Off>(&context, FROM_NETWORK) } else { no_room() }
}

/// [`from_network_l3`] with the datapath log.
#[classifier]
#[inline(always)]
pub fn from_network_l3_log(context: TcContext) -> i32 {
    if push_link_header(context.skb.skb) { run::<On>(&context, FROM_NETWORK) } else { no_room() }
}

/// TC egress of a device whose packets have no link header.
#[classifier]
#[inline(always)]
pub fn to_device_l3(context: TcContext) -> i32 {
    run_on::<Off, 0>(&context, TO_DEVICE)
}

/// [`to_device_l3`] with the datapath log.
#[classifier]
#[inline(always)]
pub fn to_device_l3_log(context: TcContext) -> i32 {
    run_on::<On, 0>(&context, TO_DEVICE)
}

#[inline(always)]
fn run<L: DatapathLog>(context: &TcContext, hook: Hook) -> i32 {
    run_on::<L, LINK_HEADER>(context, hook)
}

/// Walks a packet whose link header is of `LINK` bytes, [`LINK_HEADER`] or 0.
#[inline(always)]
fn run_on<L: DatapathLog, const LINK: usize>(context: &TcContext, hook: Hook) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the kernel passes a valid context; these are plain reads of it.
    let (device, is_tagged) = unsafe { ((*skb).ifindex, (*skb).vlan_present != 0) };
    if is_tagged {
        count(Outcome::PassedVlan as u32);
        return TC_ACT_UNSPEC;
    }
    let kernel = Context::new(context.as_ptr(), device, true);
    let mut packet = Skb::<LINK> { skb };
    packet.pull_headers();
    let Some(scratch) = scratch() else { return TC_ACT_UNSPEC };
    let result = L::walk(&mut packet, &kernel, hook, scratch);
    let out =
        if cfg!(feature = "fault") { device } else { verifier::device_of(&result.verdict, device) };
    if !L::COUNTS {
        count(result.outcome as u32);
    }
    // SAFETY: the helpers take plain numbers, or the program's own context.
    let action = unsafe {
        match result.verdict {
            // Other programs on this device still get to see the packet.
            Verdict::Pass => {
                if matches!(result.outcome, Outcome::PassedHandedOver) {
                    SUCCESSORS.tail_call(context, successor::<LINK>(hook) as u32);
                }
                return TC_ACT_UNSPEC;
            }
            Verdict::Drop => return TC_ACT_SHOT,
            // The fault that `cargo xtask test --only kernels --fault` looks for.
            Verdict::Redirect(unwritten) if cfg!(feature = "fault") => bpf_redirect(unwritten, 0),
            Verdict::RedirectNeigh(unwritten) if cfg!(feature = "fault") => {
                bpf_redirect_neigh(unwritten, core::ptr::null_mut(), 0, 0)
            }
            Verdict::Tx if cfg!(feature = "fault") => bpf_redirect(device, 0),
            // What was leaving comes back.
            Verdict::Tx if hook.is_egress() => bpf_redirect(out, INGRESS),
            Verdict::Tx => bpf_redirect(out, 0),
            Verdict::Deliver(_) => bpf_redirect(out, INGRESS),
            // Without a link header there are no link addresses to have been set.
            Verdict::Redirect(_) | Verdict::RedirectNeigh(_) if LINK == 0 => {
                if !push_link_header(skb) {
                    return no_room();
                }
                bpf_redirect_neigh(out, core::ptr::null_mut(), 0, 0)
            }
            Verdict::Redirect(_) => bpf_redirect(out, 0),
            // The stack has given it a route, by whose next hop it would go once the neighbour is resolved
            // (`neigh_update`, net/core/neighbour.c), unless the kernel looks another one up.
            Verdict::RedirectNeigh(_) if hook.is_egress() => {
                bpf_redirect_neigh(out, core::ptr::null_mut(), 0, 0)
            }
            Verdict::RedirectNeigh(_) => return redirect_neigh(out),
        }
    };
    action as i32
}

/// The program of another release that goes on with a packet.
#[inline(always)]
const fn successor<const LINK: usize>(hook: Hook) -> Successor {
    match (hook.point, hook.class) {
        (HookPoint::Egress, _) if LINK == 0 => Successor::ToDeviceL3,
        (HookPoint::Egress, _) => Successor::ToDevice,
        (HookPoint::Ingress, SourceClass::Pod) => Successor::FromPod,
        (HookPoint::Ingress, SourceClass::Network | SourceClass::Host) => Successor::FromNetwork,
    }
}

/// Drops a packet that no link header could be put in front of, and counts that.
#[inline(always)]
fn no_room() -> i32 {
    count(Outcome::DroppedWriteError as u32);
    TC_ACT_SHOT
}

/// Sends the packet out of `device` once the kernel has resolved the neighbour. A global function, which the verifier
/// looks at once, and not at the end of each walk.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redirect_neigh(device: u32) -> i32 {
    // SAFETY: the kernel keeps the element readable until the program ends.
    let has_link_header =
        DEVICES.get_ptr(&device).is_none_or(|row| unsafe { (*row).has_link_header() });
    // Whoever has found the route has found the next hop, too. Without a link header the kernel must look the route up
    // again: the device of a tunnel may need it (`ip_tunnel_xmit`, net/ipv4/ip_tunnel.c).
    let hop = if has_link_header { FIB_SCRATCH.get_ptr_mut(0) } else { None };
    // SAFETY: the helper takes plain numbers, and a next hop as long as stated, in this CPU's own value.
    let action = unsafe {
        match hop {
            Some(hop) => {
                let size = size_of::<bpf_redir_neigh>() as i32;
                bpf_redirect_neigh(device, &raw mut (*hop).next_hop, size, 0)
            }
            None => bpf_redirect_neigh(device, core::ptr::null_mut(), 0, 0),
        }
    };
    action as i32
}
