//! The list of flows that the wrapper reads, mapped into this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use anyhow::{Context, Result, ensure};
use aya::maps::MapFd;
use lb_ebpf::bench::shared::{LISTED_FLOWS, ListedFlow};

/// The list.
pub struct FlowList(ptr::NonNull<libc::c_void>);

/// Bytes of the list.
const SIZE: usize = LISTED_FLOWS as usize * size_of::<ListedFlow>();

/// The order in which flows stand: an odd multiplier puts all of them there once.
const ORDER: u32 = 0x9e37_79b1;

impl FlowList {
    /// The list in `map`.
    pub fn of(map: &MapFd) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let map = map.as_fd().as_raw_fd();
        // SAFETY: new memory is mapped where the kernel finds room, and unmapped when the value is dropped.
        let mapped =
            unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, libc::MAP_SHARED, map, 0) };
        ensure!(
            mapped != libc::MAP_FAILED,
            "cannot map the list of flows: {}",
            io::Error::last_os_error()
        );
        ptr::NonNull::new(mapped).map(Self).context("the list of flows is mapped nowhere")
    }

    /// Writes the flows with numbers up to `mask`.
    pub fn write(&mut self, flows: &[ListedFlow], mask: u32) -> Result<()> {
        ensure!(mask < LISTED_FLOWS && (mask as usize) < flows.len(), "too few flows");
        for index in 0..=mask {
            let flow = flows[(index.wrapping_mul(ORDER) & mask) as usize];
            // SAFETY: the element lies in the list, as its index is below `LISTED_FLOWS`, and no
            // program runs while it is written.
            unsafe { self.0.cast::<ListedFlow>().add(index as usize).write(flow) };
        }
        Ok(())
    }
}

impl Drop for FlowList {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's, and nothing refers into it.
        unsafe { libc::munmap(self.0.as_ptr(), SIZE) };
    }
}
