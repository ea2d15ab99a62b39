//! A table over slices of words, for user space: the kernel's, mapped into memory, or a process' own.

use core::sync::atomic::{AtomicU64, Ordering};

use super::backing::{Memory, WAYS};
use super::steps::Steps;
use crate::address::Address;

/// The words of a table.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    buckets: &'a [AtomicU64],
    /// Words of the contents of a place.
    words: usize,
}

impl<'a> Slices<'a> {
    /// A table of these buckets, whose places have contents of `words` words.
    #[must_use]
    pub const fn new(buckets: &'a [AtomicU64], words: usize) -> Self {
        Self { buckets, words }
    }

    /// Words of a bucket.
    const fn length(&self) -> usize {
        WAYS as usize * (1 + self.words)
    }

    /// Where in a bucket a word of a place's contents is.
    const fn position(&self, way: u32, index: usize) -> usize {
        WAYS as usize + way as usize * self.words + index
    }
}

/// A word that is beyond a slice reads as zero and is not written; there is none, as buckets and places are taken
/// from within the slices.
///
/// Whatever was read or written before a word is not moved behind it, and what comes after it not before.
impl<'a> Memory for Slices<'a> {
    type Bucket = &'a [AtomicU64];

    fn buckets(&self) -> u32 {
        (self.buckets.len() / self.length()) as u32
    }

    fn bucket(&self, index: u32) -> Option<Self::Bucket> {
        let first = index as usize * self.length();
        self.buckets.get(first..first + self.length())
    }

    fn header(&self, bucket: Self::Bucket, way: u32) -> u64 {
        load(bucket, way as usize)
    }

    fn compare_exchange(&self, bucket: Self::Bucket, way: u32, current: u64, new: u64) -> u64 {
        compare_exchange(bucket, way as usize, current, new)
    }

    fn set_header(&self, bucket: Self::Bucket, way: u32, header: u64) {
        store(bucket, way as usize, header);
    }

    fn word(&self, bucket: Self::Bucket, way: u32, index: usize) -> u64 {
        load(bucket, self.position(way, index))
    }

    fn set_word(&self, bucket: Self::Bucket, way: u32, index: usize, word: u64) {
        store(bucket, self.position(way, index), word);
    }

    fn replace_word(&self, bucket: Self::Bucket, way: u32, index: usize, current: u64, new: u64) {
        // If it is something else by now, another packet has moved it.
        compare_exchange(bucket, self.position(way, index), current, new);
    }
}

impl<A: Address> Steps<A> for Slices<'_> {}

fn load(words: &[AtomicU64], index: usize) -> u64 {
    words.get(index).map_or(0, |word| word.load(Ordering::Acquire))
}

fn store(words: &[AtomicU64], index: usize, value: u64) {
    if let Some(word) = words.get(index) {
        word.store(value, Ordering::Release);
    }
}

fn compare_exchange(words: &[AtomicU64], index: usize, current: u64, new: u64) -> u64 {
    let Some(word) = words.get(index) else { return 0 };
    match word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(found) | Err(found) => found,
    }
}
