//! TC: the full program, at ingress and egress of every device.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INVALIDATE_HASH, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
    TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_adjust_room,
    bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lb_common::address::Protocol;
use lb_common::conntrack::HookPoint;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::checksum::Difference;
use lb_ebpf::hook::{Hook, Verdict};
use lb_ebpf::packet::{COPIED, LINK_HEADER, Packet, QUOTED, TransportChecksum, WriteError};

use super::datapath_log::{DatapathLog, Off, On};
use crate::kernel::context::{Context, count, scratch};
use crate::kernel::maps::FIB_SCRATCH;
use crate::kernel::{features, packet_access, verifier};

/// Bytes that must be readable directly: Ethernet, the longest IPv4 or an IPv6 header, TCP.
const HEADERS: u32 = 14 + 60 + 20;

/// Bytes that a packet is shortened by in front: more than lie before any checksum's start.
const SPARE: u32 = 128;

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

#[inline(always)]
fn run<L: DatapathLog>(context: &TcContext, hook: Hook) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the kernel passes a valid context; these are plain reads of it.
    let (device, is_tagged) = unsafe { ((*skb).ifindex, (*skb).vlan_present != 0) };
    if is_tagged {
        count(Outcome::PassedVlan as u32);
        return TC_ACT_UNSPEC;
    }
    let kernel = Context::new(context.as_ptr(), device, true);
    let mut packet = Skb { skb };
    packet.pull_headers();
    let Some(scratch) = scratch() else { return TC_ACT_UNSPEC };
    let result = L::walk(&mut packet, &kernel, hook, scratch);
    let out =
        if cfg!(feature = "fault") { device } else { verifier::device_of(&result.verdict, device) };
    if !L::COUNTS {
        count(result.outcome as u32);
    }
    // Whoever has found the route has found this; where it is not there, the kernel looks again.
    let hop = FIB_SCRATCH.get_ptr_mut(0);
    // SAFETY: the helpers take plain numbers, and a next hop as long as stated, in this CPU's own value.
    let action = unsafe {
        match result.verdict {
            // Other programs on this device still get to see the packet.
            Verdict::Pass => return TC_ACT_UNSPEC,
            Verdict::Drop => return TC_ACT_SHOT,
            // The fault that `cargo xtask test --only kernels --fault` looks for.
            Verdict::Redirect(unwritten) if cfg!(feature = "fault") => bpf_redirect(unwritten, 0),
            Verdict::RedirectNeigh(unwritten) if cfg!(feature = "fault") => {
                bpf_redirect_neigh(unwritten, core::ptr::null_mut(), 0, 0)
            }
            Verdict::Tx if cfg!(feature = "fault") => bpf_redirect(device, 0),
            Verdict::Redirect(_) | Verdict::Tx => bpf_redirect(out, 0),
            Verdict::RedirectNeigh(_) => match hop {
                Some(hop) => {
                    let size = size_of::<bpf_redir_neigh>() as i32;
                    bpf_redirect_neigh(out, &raw mut (*hop).next_hop, size, 0)
                }
                None => bpf_redirect_neigh(out, core::ptr::null_mut(), 0, 0),
            },
        }
    };
    action as i32
}

/// A socket buffer.
struct Skb {
    skb: *mut __sk_buff,
}

impl Skb {
    /// Makes the headers readable directly where they are not.
    #[inline(always)]
    fn pull_headers(&mut self) {
        // SAFETY: the context is valid, and the helper takes any length up to the packet's.
        unsafe {
            let length = (*self.skb).len;
            let readable = packet_access::skb_length(self.skb) as u32;
            if readable < HEADERS && readable < length {
                let most = if length < HEADERS { length } else { HEADERS };
                let wanted = if (*self.skb).gso_size == 0 { most } else { gso_headers(self.skb) };
                if readable < wanted {
                    // Refused, the headers that are missing end the walk as malformed.
                    bpf_skb_pull_data(self.skb, wanted);
                }
            }
        }
    }
}

/// Bytes of the headers of a packet that the kernel will cut, link header included and TCP's options not;
/// they are not yet readable.
///
/// No byte behind them may be pulled: GRO may have made the packet of a list of datagrams
/// (`SKB_GSO_FRAGLIST`), and where a pull takes a part of the second one into the first, older kernels
/// crash in `skb_segment` or send what nobody sent. Linux 6.16 makes such packets linear before it cuts
/// them (<https://git.kernel.org/torvalds/c/3382a1ed7f77>), 6.12 sends some the right way
/// (<https://git.kernel.org/torvalds/c/a1e40ac5b5e9>). What GRO makes has its headers in the linear part, so
/// hardly any packet comes here.
#[inline(never)]
fn gso_headers(skb: *mut __sk_buff) -> u32 {
    const ETHER_TYPE: usize = 12;
    // EtherType and IP header, up to the protocol's number.
    let mut bytes = [0u8; 12];
    // SAFETY: the context is valid, and the buffer is as long as stated.
    let result =
        unsafe { bpf_skb_load_bytes(skb.cast(), ETHER_TYPE as u32, bytes.as_mut_ptr().cast(), 12) };
    let [type_high, type_low, first, _, _, _, _, _, next_header, _, _, protocol] = bytes;
    let (ip, protocol) = match [type_high, type_low] {
        _ if result != 0 => return 0,
        [0x08, 0x00] => (u32::from(first & 0xf) * 4, protocol),
        [0x86, 0xdd] => (40, next_header),
        _ => return 0,
    };
    LINK_HEADER as u32 + ip + if protocol == Protocol::UDP.0 { 8 } else { 20 }
}

impl Packet for Skb {
    #[inline(always)]
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: the context is this program's, and the borrow of `self` is the only one.
        unsafe { packet_access::of_skb(self.skb, offset) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.skb).len }
    }

    /// Of a packet that the kernel will cut, the headers are readable as they are: see [`gso_headers`].
    #[inline(always)]
    fn pull(&mut self, length: u32) {
        // SAFETY: the context is valid, and the helper takes any length up to the packet's. Refused,
        // the headers that are missing end the walk as malformed.
        unsafe {
            let all = (*self.skb).len;
            if (*self.skb).gso_size == 0 {
                bpf_skb_pull_data(self.skb, if all < length { all } else { length });
            }
        }
    }

    #[inline(always)]
    fn copy(
        &mut self,
        offset: usize,
        length: u32,
        into: &mut [u8; COPIED],
        at: usize,
    ) -> Result<(), WriteError> {
        // The bound is stated for the verifier.
        let length = verifier::at_most::<QUOTED>(length);
        let room =
            into.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<{ QUOTED as usize }>());
        let Some(into) = room else { return Err(WriteError) };
        let (skb, into) = (self.skb.cast::<c_void>(), into.as_mut_ptr().cast::<c_void>());
        // SAFETY: the context is valid, and the room is as long as the bound.
        let result = unsafe { bpf_skb_load_bytes(skb, offset as u32, into, length) };
        if result == 0 { Ok(()) } else { Err(WriteError) }
    }

    /// The packet is cut or lengthened behind and then shortened in front by [`SPARE`], so that a
    /// checksum offload that was still to be done is dropped: the checksum would be written into the
    /// middle of the message (`skb_postpull_rcsum`, include/linux/skbuff.h).
    #[inline(always)]
    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), WriteError> {
        let total = LINK_HEADER as u32 + length;
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
        let (skb, from) = (self.skb, from.as_ptr().cast_mut().cast::<c_void>());
        let length = verifier::at_most::<{ COPIED as u32 }>(length);
        // SAFETY: the context is valid, the helpers check every length against the packet, and `from`
        // has the bytes that are read of it.
        unsafe {
            if bpf_skb_change_tail(skb, total + SPARE, 0) != 0
                || bpf_skb_adjust_room(skb, -(SPARE as i32), BPF_ADJ_ROOM_MAC, 0) != 0
                || bpf_skb_store_bytes(skb, LINK_HEADER as u32, from, length, flags) != 0
            {
                return Err(WriteError);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.skb).gso_size }
    }

    /// The helper knows whether the checksum is complete, partial, or verified by the device. It is
    /// called once: what it makes of the change of the addresses tells whether the ports are covered,
    /// and for these arithmetic is enough.
    #[inline(always)]
    fn update(&mut self, update: TransportChecksum) -> Result<(), WriteError> {
        let mut flags = 0;
        if update.zero_is_none {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        let mut pseudo_flags = flags | u64::from(BPF_F_PSEUDO_HDR);
        if update.is_v6 {
            pseudo_flags |= features::checksum_flags();
        }
        let pseudo_header = update.pseudo_header.short();
        if pseudo_header.is_nothing() {
            return self.replace(update.offset, update.segment, flags);
        }
        let before = *self.header::<2>(update.offset).ok_or(WriteError)?;
        self.replace(update.offset, pseudo_header, pseudo_flags)?;
        let field = self.header::<2>(update.offset).ok_or(WriteError)?;
        if pseudo_header.has_changed(before, *field) {
            *field = update.applied(update.segment, *field);
        }
        Ok(())
    }
}

impl Skb {
    #[inline(always)]
    fn replace(
        &mut self,
        offset: usize,
        difference: Difference,
        flags: u64,
    ) -> Result<(), WriteError> {
        let to = u64::from(difference.folded());
        // SAFETY: the context is valid, and the helper checks the offset against the packet.
        let result = unsafe { bpf_l4_csum_replace(self.skb, offset as u32, 0, to, flags) };
        if result == 0 { Ok(()) } else { Err(WriteError) }
    }
}
