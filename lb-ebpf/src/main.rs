//! The BPF object. Four programs wrap a packet as a [`lb_ebpf::packet::Packet`], walk it, count the
//! outcome and return the verdict: `from_pod` and `from_network` at TC ingress of pod-facing and
//! network-facing devices, `to_device` at TC egress of either, and `network_xdp` before `from_network`
//! where a driver runs XDP. The programs of a cgroup do socket load balancing. Compiled for anything but BPF this is an empty program, so that the workspace builds whole.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// Written-out loads, see `kernel::packet_access`; the BPF target needs an unstable compiler anyway.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is the BPF part of Weir: build it with `cargo xtask build`");
}
