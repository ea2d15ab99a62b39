//! Arrays of the kernel, mapped into memory.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The elements of a BPF array made with `BPF_F_MMAPABLE`, as words. The programs see each change at once, and
/// theirs are seen here.
#[derive(Debug)]
pub struct Mapped {
    words: NonNull<AtomicU64>,
    count: usize,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone, and its words are atomic.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `count` words of the array `map`, which holds at least so many.
    ///
    /// # Errors
    /// The kernel's error: the array is shorter, or was made without that flag.
    pub fn new(map: impl AsFd, count: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(count * size_of::<u64>());
        let bytes = bytes.ok_or_else(|| io::Error::other("it holds nothing"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, of memory that the map keeps as long as
        // the mapping exists.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { words: start.cast(), count, bytes })
    }

    /// The words.
    #[must_use]
    pub const fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, begins at a page, and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), self.count) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _unmapped = unsafe { munmap(self.words.cast(), self.bytes.get()) };
    }
}
