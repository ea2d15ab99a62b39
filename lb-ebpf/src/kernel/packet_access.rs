//! Where a packet's bytes begin and end.
//!
//! Programs read both from their context as 32-bit fields, which the verifier turns into 64-bit
//! pointers. The compiler must not know that they are 32 bits wide, or it spills half a pointer to
//! the stack; hence the two loads are written out.

use core::arch::asm;
use core::hint::assert_unchecked;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, xdp_md};

/// Reads the context field at byte `$offset` as the 64-bit value that the verifier makes of it.
macro_rules! field {
    ($context:expr, $offset:expr) => {{
        let value: usize;
        asm!(
            "{value} = *(u32 *)({context} + {offset})",
            value = out(reg) value,
            context = in(reg) $context,
            offset = const $offset,
            options(nostack, readonly, preserves_flags),
        );
        value
    }};
}

/// The `N` bytes at `offset` between `data` and `end`; `None` where they end first.
///
/// # Safety
/// `data` and `end` must have just been read from the context, and no other reference into the
/// packet may be alive.
#[inline(always)]
unsafe fn within<'a, const N: usize>(
    data: usize,
    end: usize,
    offset: usize,
) -> Option<&'a mut [u8; N]> {
    let start = data + offset;
    if start + N > end {
        return None;
    }
    // SAFETY: the comparison above shows that the bytes are the packet's, and the verifier checks
    // that it does; that no other reference is alive is the caller's promise. No packet begins at
    // zero: without a word of that, each reference would be tested for being `None`.
    unsafe {
        assert_unchecked(start != 0);
        Some(&mut *(start as *mut [u8; N]))
    }
}

/// The `N` bytes at `offset` of a socket buffer's linear part.
///
/// # Safety
/// `skb` must be the program's context, and no other reference into the packet may be alive.
#[inline(always)]
pub unsafe fn of_skb<'a, const N: usize>(
    skb: *mut __sk_buff,
    offset: usize,
) -> Option<&'a mut [u8; N]> {
    // SAFETY: both fields are read anew each time, as helpers may move the data; the rest is the
    // caller's promise.
    unsafe {
        let data = field!(skb, offset_of!(__sk_buff, data));
        let end = field!(skb, offset_of!(__sk_buff, data_end));
        within(data, end, offset)
    }
}

/// The `N` bytes at `offset` of a driver's buffer.
///
/// # Safety
/// `context` must be the program's context, and no other reference into the packet may be alive.
#[inline(always)]
pub unsafe fn of_frame<'a, const N: usize>(
    context: *mut xdp_md,
    offset: usize,
) -> Option<&'a mut [u8; N]> {
    // SAFETY: as in `of_skb`.
    unsafe {
        let data = field!(context, offset_of!(xdp_md, data));
        let end = field!(context, offset_of!(xdp_md, data_end));
        within(data, end, offset)
    }
}

/// Bytes of a socket buffer's linear part.
///
/// # Safety
/// `skb` must be the program's context.
#[inline(always)]
pub unsafe fn skb_length(skb: *mut __sk_buff) -> usize {
    // SAFETY: two loads from the context.
    unsafe {
        field!(skb, offset_of!(__sk_buff, data_end)) - field!(skb, offset_of!(__sk_buff, data))
    }
}

/// Bytes in a driver's buffer.
///
/// # Safety
/// `context` must be the program's context.
#[inline(always)]
pub unsafe fn frame_length(context: *mut xdp_md) -> usize {
    // SAFETY: two loads from the context.
    unsafe {
        field!(context, offset_of!(xdp_md, data_end)) - field!(context, offset_of!(xdp_md, data))
    }
}
