//! Making a node's device behave as a network card does under XDP. A veth end delivers frames that
//! XDP sends out of its peer only if it carries an XDP program itself: here one that passes all.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use super::namespace::Namespace;

/// Attaches the program to `device` in `namespace`; it stays as long as the value lives.
pub(super) fn attach_pass_all(namespace: &Namespace, device: &str) -> Result<OwnedFd> {
    namespace.run(|| {
        let index = if_nametoindex(device)?;
        let program = load().context("cannot load an XDP program that passes everything")?;
        attach(&program, index).with_context(|| format!("cannot attach XDP to {device}"))
    })
}

/// `bpf_attr` of BPF_PROG_LOAD, as far as Linux 4.1 had it.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h#L1513>
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `bpf_attr` of BPF_LINK_CREATE for a device.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h#L1714>
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

fn load() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

fn attach(program: &OwnedFd, index: u32) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_XDP: u32 = 37;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// bpf(2) for commands that return a file descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads no more than the size given, and what the attributes point to lives
    // until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
