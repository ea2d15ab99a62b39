//! Socket buffers as packets: what TC's programs work on.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INVALIDATE_HASH, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::generated::{
    bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use lb_common::address::Protocol;
use lb_ebpf::checksum::Difference;
use lb_ebpf::packet::{COPIED, LINK_HEADER, Packet, QUOTED, TransportChecksum, WriteError};

use super::{features, packet_access, verifier};

/// Bytes that must be readable directly: Ethernet, the longest IPv4 or an IPv6 header, TCP.
const HEADERS: u32 = 14 + 60 + 20;

/// Where the EtherType stands.
const ETHER_TYPE: usize = 12;

/// Bytes that a packet is shortened by in front: more than lie before any checksum's start.
const SPARE: u32 = 128;

/// Puts a link header in front of a packet that has none: its EtherType, and addresses of zeros. Returns whether there
/// was room.
#[inline(always)]
pub fn push_link_header(skb: *mut __sk_buff) -> bool {
    // SAFETY: the kernel passes a valid context; the helper makes room for as many bytes, and zeroes them.
    unsafe {
        let ether_type = ether_type(skb);
        if bpf_skb_change_head(skb, LINK_HEADER as u32, 0) != 0 {
            return false;
        }
        let Some(field) = packet_access::of_skb::<2>(skb, ETHER_TYPE) else { return false };
        *field = ether_type;
        true
    }
}

/// The EtherType that the kernel has noted.
///
/// # Safety
/// `skb` must be the program's context.
#[inline(always)]
unsafe fn ether_type(skb: *mut __sk_buff) -> [u8; 2] {
    // SAFETY: a plain read of the context; the field is in the order of the wire.
    let [high, low, ..] = unsafe { (*skb).protocol }.to_ne_bytes();
    [high, low]
}

/// A socket buffer whose link header is of `LINK` bytes, [`LINK_HEADER`] or 0.
pub struct Skb<const LINK: usize> {
    pub skb: *mut __sk_buff,
}

impl<const LINK: usize> Skb<LINK> {
    /// Bytes of a link header that are not there.
    const MISSING: usize = LINK_HEADER - LINK;

    /// Where in the buffer the byte at `offset` is, of a frame with a link header. No packet is longer than the mask, and
    /// by it the verifier sees that the place is not before the packet.
    #[inline(always)]
    const fn place(offset: usize) -> usize {
        if LINK == LINK_HEADER { offset } else { offset.wrapping_sub(Self::MISSING) & 0x7fff }
    }

    /// Makes the headers readable directly where they are not.
    #[inline(always)]
    pub fn pull_headers(&mut self) {
        // SAFETY: the context is valid, and the helper takes any length up to the packet's.
        unsafe {
            let length = (*self.skb).len;
            let readable = packet_access::skb_length(self.skb) as u32;
            let headers = HEADERS - Self::MISSING as u32;
            if readable < headers && readable < length {
                let most = if length < headers { length } else { headers };
                let wanted =
                    if (*self.skb).gso_size == 0 { most } else { gso_headers(self.skb, LINK) };
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
fn gso_headers(skb: *mut __sk_buff, link_header: usize) -> u32 {
    // The IP header, up to the protocol's number.
    let mut bytes = [0u8; 10];
    // SAFETY: the context is valid, and the buffer is as long as stated.
    let (result, ether_type) = unsafe {
        let into = bytes.as_mut_ptr().cast();
        (bpf_skb_load_bytes(skb.cast(), link_header as u32, into, 10), ether_type(skb))
    };
    let [first, _, _, _, _, _, next_header, _, _, protocol] = bytes;
    let (ip, protocol) = match ether_type {
        _ if result != 0 => return 0,
        [0x08, 0x00] => (u32::from(first & 0xf) * 4, protocol),
        [0x86, 0xdd] => (40, next_header),
        _ => return 0,
    };
    link_header as u32 + ip + if protocol == Protocol::UDP.0 { 8 } else { 20 }
}

impl<const LINK: usize> Packet for Skb<LINK> {
    const HAS_LINK_HEADER: bool = LINK != 0;

    #[inline(always)]
    fn ether_type(&mut self) -> Option<[u8; 2]> {
        if LINK == 0 {
            // SAFETY: the context is this program's.
            return Some(unsafe { ether_type(self.skb) });
        }
        let [.., high, low] = *self.header::<LINK_HEADER>(0)?;
        Some([high, low])
    }

    #[inline(always)]
    fn header<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: the context is this program's, and the borrow of `self` is the only one.
        unsafe { packet_access::of_skb(self.skb, Self::place(offset)) }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { (*self.skb).len + Self::MISSING as u32 }
    }

    /// Of a packet that the kernel will cut, the headers are readable as they are: see [`gso_headers`].
    #[inline(always)]
    fn pull(&mut self, length: u32) {
        // SAFETY: the context is valid, and the helper takes any length up to the packet's. Refused,
        // the headers that are missing end the walk as malformed.
        unsafe {
            let all = (*self.skb).len;
            if (*self.skb).gso_size == 0 {
                let length = length.wrapping_sub(Self::MISSING as u32);
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
        let result = unsafe { bpf_skb_load_bytes(skb, Self::place(offset) as u32, into, length) };
        if result == 0 { Ok(()) } else { Err(WriteError) }
    }

    /// The packet is cut or lengthened behind and then shortened in front by [`SPARE`], so that a
    /// checksum offload that was still to be done is dropped: the checksum would be written into the
    /// middle of the message (`skb_postpull_rcsum`, include/linux/skbuff.h).
    #[inline(always)]
    fn replace(&mut self, from: &[u8; COPIED], length: u32) -> Result<(), WriteError> {
        let total = LINK as u32 + length;
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
        let (skb, from) = (self.skb, from.as_ptr().cast_mut().cast::<c_void>());
        let length = verifier::at_most::<{ COPIED as u32 }>(length);
        // SAFETY: the context is valid, the helpers check every length against the packet, and `from`
        // has the bytes that are read of it.
        unsafe {
            if bpf_skb_change_tail(skb, total + SPARE, 0) != 0
                || bpf_skb_adjust_room(skb, -(SPARE as i32), BPF_ADJ_ROOM_MAC, 0) != 0
                || bpf_skb_store_bytes(skb, LINK as u32, from, length, flags) != 0
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

impl<const LINK: usize> Skb<LINK> {
    #[inline(always)]
    fn replace(
        &mut self,
        offset: usize,
        difference: Difference,
        flags: u64,
    ) -> Result<(), WriteError> {
        let to = u64::from(difference.folded());
        // SAFETY: the context is valid, and the helper checks the offset against the packet.
        let result =
            unsafe { bpf_l4_csum_replace(self.skb, Self::place(offset) as u32, 0, to, flags) };
        if result == 0 { Ok(()) } else { Err(WriteError) }
    }
}
