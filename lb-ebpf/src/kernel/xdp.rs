//! XDP on network-facing devices: finishes what it can at once, and leaves the rest, untouched, to
//! the full program at TC.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::connection::Place;
use lb_common::service::SourceClass;
use lb_ebpf::balance::{Hook, Onward, balance};
use lb_ebpf::packet::{COPIED, LINK_HEADER, Packet, Unwritable};

use super::bounds;
use super::verifier;
use super::world::{Kernel, count, flows};

/// XDP of a network-facing device.
#[xdp]
pub fn network_xdp(context: XdpContext) -> u32 {
    // SAFETY: the kernel passes a valid context; this is a plain read of it.
    let device = unsafe { (*context.ctx).ingress_ifindex };
    let kernel = Kernel::new(context.as_ptr(), device, false);
    let hook = Hook { place: Place::Ingress, class: SourceClass::Network, goes_on: false };
    let Some(flows) = flows() else { return xdp_action::XDP_PASS };
    let walked = balance(&mut Frame { context: context.ctx }, &kernel, hook, flows);
    let out = verifier::device_of(&walked.onward, device);
    let action = match walked.onward {
        Onward::On => xdp_action::XDP_PASS,
        Onward::Drop => xdp_action::XDP_DROP,
        Onward::Out(_) if out == device => xdp_action::XDP_TX,
        Onward::Out(_) => xdp_action::XDP_REDIRECT,
        Onward::Back => xdp_action::XDP_TX,
        // The world here resolves nothing, so no walk ends so; were it otherwise, better no packet
        // than a wrong one.
        Onward::Resolve(_) => xdp_action::XDP_ABORTED,
    };
    count(walked.outcome);
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
        unsafe { bounds::of_frame(self.context, offset) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { bounds::frame_length(self.context) as u32 }
    }

    /// Never asked: XDP leaves answers to TC.
    #[inline(always)]
    fn copy(&mut self, _: usize, _: u32, _: &mut [u8; COPIED], _: usize) -> Result<(), Unwritable> {
        Err(Unwritable)
    }

    /// As above.
    #[inline(always)]
    fn replace(&mut self, _: &[u8; COPIED], _: u32) -> Result<(), Unwritable> {
        Err(Unwritable)
    }

    #[inline(always)]
    fn exceeds(&self, mtu: u32) -> bool {
        self.length() > mtu + LINK_HEADER as u32
    }
}
