//! What the verifier must see, and older ones do not see by themselves. They follow branches that
//! cannot be taken: they do not conclude from `2 <= x <= 4` and a cleared low bit that `x` is one of two
//! values, nor from one register what was compared in another. Whatever is read on such a branch must
//! have been written before, and whatever is used as a length must be compared where it is used.
//! ARCHITECTURE.md, "What older verifiers cannot see", has the rules; `cargo xtask test --only kernels`
//! holds them.

use core::arch::asm;

use lb_ebpf::hook::Verdict;

/// `value`, in a register that is written on every way that leads here. Of a value that is read on some
/// ways alone the compiler leaves the register as it is on the others.
#[inline(always)]
pub fn written(value: u32) -> u32 {
    let written;
    // SAFETY: one register is copied to another. It must be an instruction: a template without one
    // would give two lines of the source to the next, which the kernel refuses.
    unsafe {
        asm!(
            "{to} = {from}",
            to = out(reg) written,
            from = in(reg) value,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    written
}

/// The device that a packet leaves by; `own`, its own one, where it does not leave.
#[inline(always)]
pub fn device_of(verdict: &Verdict, own: u32) -> u32 {
    written(match verdict {
        Verdict::Redirect(device) | Verdict::RedirectNeigh(device) | Verdict::Deliver(device) => {
            *device
        }
        Verdict::Pass | Verdict::Drop | Verdict::Tx => own,
    })
}

/// `length`, at least 1 and at most `MOST`, in a register whose bounds the verifier has just seen: the
/// compiler, which may know them, must not leave the comparison out.
#[inline(always)]
pub fn at_most<const MOST: u32>(length: u32) -> u32 {
    let mut bounded = length;
    // SAFETY: the register is compared and perhaps set; memory is not touched.
    unsafe {
        asm!(
            "if {value} < {beyond} goto 1f",
            "{value} = {most}",
            "1:",
            "if {value} > 0 goto 2f",
            "{value} = 1",
            "2:",
            value = inout(reg) bounded,
            beyond = const MOST + 1,
            most = const MOST,
            options(nomem, nostack),
        );
    }
    bounded
}
