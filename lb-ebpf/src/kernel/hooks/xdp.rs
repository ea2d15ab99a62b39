//! XDP on network-facing devices: finishes what it can at once, and leaves the rest, untouched, to
//! the full program at TC.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::conntrack::HookPoint;
use lb_common::service::SourceClass;
use lb_ebpf::hook::{Hook, Verdict};
use lb_ebpf::packet::{COPIED, Packet, WriteError};

use super::datapath_log::{DatapathLog, Off, On};
use crate::kernel::context::{Context, count, scratch};
use crate::kernel::{packet_access, verifier};

/// XDP of a network-facing device.
#[xdp]
#[inline(always)]
pub fn network_xdp(context: XdpContext) -> u32 {
    run::<Off>(&context)
}

/// [`network_xdp`] with the datapath log.
#[xdp]
#[inline(always)]
pub fn network_xdp_log(context: XdpContext) -> u32 {
    run::<On>(&context)
}

#[inline(always)]
fn run<L: DatapathLog>(context: &XdpContext) -> u32 {
    // SAFETY: the kernel passes a valid context; this is a plain read of it.
    let device = unsafe { (*context.ctx).ingress_ifindex };
    let kernel = Context::new(context.as_ptr(), device, false);
    let hook =
        Hook { point: HookPoint::Ingress, class: SourceClass::Network, can_pass_to_stack: false };
    let Some(scratch) = scratch() else { return xdp_action::XDP_PASS };
    let result = L::walk(&mut Frame { context: context.ctx }, &kernel, hook, scratch);
    let out = verifier::device_of(&result.verdict, device);
    let action = match result.verdict {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Redirect(_) if out == device => xdp_action::XDP_TX,
        Verdict::Redirect(_) => xdp_action::XDP_REDIRECT,
        Verdict::Tx => xdp_action::XDP_TX,
        // The world here resolves nothing, so no walk ends so; were it otherwise, better no packet
        // than a wrong one.
        Verdict::RedirectNeigh(_) | Verdict::Deliver(_) => xdp_action::XDP_ABORTED,
    };
    if !L::COUNTS {
        count(result.outcome as u32);
    }
    if action == xdp_action::XDP_REDIRECT {
        // SAFETY: the helper takes plain numbers.
        return unsafe { bpf_redirect(out, 0) as u32 };
    }
    action
}

/// A frame in a driver's buffer.
struct Frame {
    context: *mut xdp_md,
}

impl Packet for Frame {
    #[inline(always)]
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: the context is this program's, and the borrow of `self` is the only one.
        unsafe { packet_access::of_frame(self.context, offset) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { packet_access::frame_length(self.context) as u32 }
    }

    /// Never called: XDP leaves ICMP messages to TC.
    #[inline(always)]
    fn copy(&mut self, _: usize, _: u32, _: &mut [u8; COPIED], _: usize) -> Result<(), WriteError> {
        Err(WriteError)
    }

    /// As above.
    #[inline(always)]
    fn replace(&mut self, _: &[u8; COPIED], _: u32) -> Result<(), WriteError> {
        Err(WriteError)
    }
}
