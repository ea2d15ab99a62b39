//! The benchmark's own object: wrappers that give a program the same packet again and again, and
//! floors to subtract and to compare with. `lb_ebpf::bench::shared` says why; `tests/benches/packets` fills
//! the maps and does the arithmetic.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
#[path = "../kernel/packet_access.rs"]
#[expect(dead_code, reason = "frames are read as the programs read them, but fewer ways")]
mod packet_access;
#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is the BPF part of Weir's benchmark: run it with `cargo xtask bench packets`");
}
