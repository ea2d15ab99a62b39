//! Fragments that came before the first of their packet: copied into a map, and given to their device
//! once more when the first one has come. Only TC does so; XDP leaves fragments to it.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{
    __sk_buff, BPF_ANY, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use lb_common::fragment::{FirstFragment, HeldFragment};
use lb_ebpf::packet::{LONGEST_HELD, Unwritable};

use super::maps::{FamilyMaps, HOLDING};
use super::verifier;
use super::world::Kernel;

/// Fragments held at once, per family; the one held longest gives way.
pub const MOST: u32 = 256;

/// A frame in a map.
#[repr(C)]
pub struct HeldFrame {
    length: u32,
    bytes: [u8; LONGEST_HELD as usize],
}

/// Copies the frame of `length` bytes; returns whether it could.
#[inline(always)]
pub fn keep<A: FamilyMaps>(kernel: &Kernel, held: &HeldFragment<A>, length: u32) -> bool {
    match room() {
        Some(room) if kernel.resolves && length <= LONGEST_HELD => {
            copy(kernel, room, length) && A::HELD.insert(held, room, u64::from(BPF_ANY)).is_ok()
        }
        _ => false,
    }
}

/// Makes the program's own frame, of `length` bytes, each of the first `count` that are held of
/// `held`'s packet in turn, gives a copy to the device it came by, and makes it itself again.
///
/// # Errors
/// The last of these did not succeed.
#[inline(always)]
pub fn release<A: FamilyMaps>(
    kernel: &Kernel,
    held: &mut HeldFragment<A>,
    count: u8,
    length: u32,
) -> Result<(), Unwritable> {
    let Some(own) = room() else { return Ok(()) };
    if !kernel.resolves || length > LONGEST_HELD || !copy(kernel, own, length) {
        return Ok(());
    }
    for number in 0..u32::from(FirstFragment::MOST_HELD) {
        if number >= u32::from(count) {
            break;
        }
        held.number = number;
        let Some(frame) = A::HELD.get_ptr(&*held) else { continue };
        if become_frame(kernel, frame).is_ok() {
            let skb = kernel.context.cast::<__sk_buff>();
            // SAFETY: the context is valid. A copy that cannot be sent is lost as packets are.
            unsafe { bpf_clone_redirect(skb, kernel.device, u64::from(BPF_F_INGRESS)) };
        }
        // It may have given way already.
        let _gone = A::HELD.remove(&*held);
    }
    become_frame(kernel, &raw const *own)
}

/// This CPU's room for a frame.
#[inline(always)]
fn room<'a>() -> Option<&'a mut HeldFrame> {
    // SAFETY: this CPU's own value, which no other program run touches meanwhile: programs of one CPU
    // do not interrupt each other. A run either keeps a frame or releases some.
    HOLDING.get_ptr_mut(0).map(|room| unsafe { &mut *room })
}

#[inline(always)]
fn copy(kernel: &Kernel, room: &mut HeldFrame, length: u32) -> bool {
    room.length = length;
    let length = verifier::at_most::<LONGEST_HELD>(length);
    let into = room.bytes.as_mut_ptr().cast::<c_void>();
    // SAFETY: the context is valid, and the room is as long as the bound.
    unsafe { bpf_skb_load_bytes(kernel.context, 0, into, length) == 0 }
}

/// Makes the program's own packet this frame, an element of a map. If more fragments are held than
/// there is room for, another CPU may write another one into the element meanwhile; the copy then is
/// no fragment of this packet, or fails its checksum at the far end. Hence a pointer, no reference.
#[inline(always)]
fn become_frame(kernel: &Kernel, frame: *const HeldFrame) -> Result<(), Unwritable> {
    // SAFETY: the kernel keeps an element readable until the program ends; the length is read once,
    // and bounded whatever it is.
    let (length, from) =
        unsafe { (ptr::read_volatile(&raw const (*frame).length), &raw const (*frame).bytes) };
    let length = verifier::at_most::<LONGEST_HELD>(length);
    let (skb, from) = (kernel.context.cast::<__sk_buff>(), from.cast_mut().cast::<c_void>());
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
    // SAFETY: the context is valid, the helpers check the length against the packet, and the frame has
    // as many bytes.
    let done = unsafe {
        bpf_skb_change_tail(skb, length, 0) == 0
            && bpf_skb_store_bytes(skb, 0, from, length, flags) == 0
    };
    if done { Ok(()) } else { Err(Unwritable) }
}
