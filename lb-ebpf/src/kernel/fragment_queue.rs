//! Fragments that arrived before the first one of their packet: copied into a map, and sent through their
//! device again once the first one has arrived. Only TC does so; XDP leaves fragments to it.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{
    __sk_buff, BPF_ANY, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use lb_common::fragment::{FirstFragment, QueuedFragment};
use lb_ebpf::packet::{MAX_QUEUED_FRAME, WriteError};

use super::context::Context;
use super::maps::{FRAG_SCRATCH, FamilyMaps};
use super::values::QueuedFrame;
use super::verifier;

/// Queues a copy of the frame of `length` bytes; returns whether it could.
#[inline(always)]
pub fn enqueue<A: FamilyMaps>(
    context: &Context,
    fragment: &QueuedFragment<A>,
    length: u32,
) -> bool {
    match scratch() {
        Some(scratch) if context.resolves && length <= MAX_QUEUED_FRAME => {
            copy(context, scratch, length)
                && A::FRAG_QUEUE.insert(fragment, scratch, u64::from(BPF_ANY)).is_ok()
        }
        _ => false,
    }
}

/// Turns the program's own frame, of `length` bytes, into each of the `count` queued fragments of
/// `fragment`'s packet, sends a clone of it into the ingress of its device, and restores it.
///
/// # Errors
/// The frame could not be restored.
#[inline(always)]
pub fn release<A: FamilyMaps>(
    context: &Context,
    fragment: &mut QueuedFragment<A>,
    count: u8,
    length: u32,
) -> Result<(), WriteError> {
    let Some(own) = scratch() else { return Ok(()) };
    if !context.resolves || length > MAX_QUEUED_FRAME || !copy(context, own, length) {
        return Ok(());
    }
    for number in 0..u32::from(FirstFragment::MAX_QUEUED) {
        if number >= u32::from(count) {
            break;
        }
        fragment.number = number;
        let Some(frame) = A::FRAG_QUEUE.get_ptr(&*fragment) else { continue };
        if become_frame(context, frame).is_ok() {
            let skb = context.context.cast::<__sk_buff>();
            // SAFETY: the context is valid. A clone that cannot be sent is lost, as packets are.
            unsafe { bpf_clone_redirect(skb, context.device, u64::from(BPF_F_INGRESS)) };
        }
        // The LRU map may have evicted it already.
        let _gone = A::FRAG_QUEUE.remove(&*fragment);
    }
    become_frame(context, &raw const *own)
}

/// This CPU's scratch space for a frame.
#[inline(always)]
fn scratch<'a>() -> Option<&'a mut QueuedFrame> {
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one CPU
    // do not interrupt each other. A run either queues a frame or releases some.
    FRAG_SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

#[inline(always)]
fn copy(context: &Context, scratch: &mut QueuedFrame, length: u32) -> bool {
    scratch.length = length;
    let length = verifier::at_most::<MAX_QUEUED_FRAME>(length);
    let into = scratch.bytes.as_mut_ptr().cast::<c_void>();
    // SAFETY: the context is valid, and the buffer is as long as the bound.
    unsafe { bpf_skb_load_bytes(context.context, 0, into, length) == 0 }
}

/// Turns the program's own packet into this frame, an element of a map. If more fragments are queued than
/// the map takes, another CPU may write another one into the element meanwhile; the copy then is no
/// fragment of this packet, or fails its checksum at the receiver. Hence a pointer, no reference.
#[inline(always)]
fn become_frame(context: &Context, frame: *const QueuedFrame) -> Result<(), WriteError> {
    // SAFETY: the kernel keeps an element readable until the program ends; the length is read once,
    // and bounded whatever it is.
    let (length, from) =
        unsafe { (ptr::read_volatile(&raw const (*frame).length), &raw const (*frame).bytes) };
    let length = verifier::at_most::<MAX_QUEUED_FRAME>(length);
    let (skb, from) = (context.context.cast::<__sk_buff>(), from.cast_mut().cast::<c_void>());
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
    // SAFETY: the context is valid, the helpers check the length against the packet, and the frame has
    // as many bytes.
    let done = unsafe {
        bpf_skb_change_tail(skb, length, 0) == 0
            && bpf_skb_store_bytes(skb, 0, from, length, flags) == 0
    };
    if done { Ok(()) } else { Err(WriteError) }
}
