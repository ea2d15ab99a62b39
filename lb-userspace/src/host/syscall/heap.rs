//! The allocator's part of memory.

/// Gives back to the system what was freed and is kept for later. For after work that takes much more memory than
/// what follows; it walks over the whole heap, some milliseconds for 100 MB.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer, and what is allocated stays where it is (malloc_trim(3)).
    let _was_any = unsafe { libc::malloc_trim(0) };
}
