//! A place in a table.

use super::backing::{Memory, WAYS};
use super::header::Header;

/// A place in a bucket.
pub(super) struct Position<M: Memory> {
    pub bucket: M::Bucket,
    pub way: u32,
    /// Its number in the table.
    pub place: u32,
}

impl<M: Memory> Clone for Position<M> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Memory> Copy for Position<M> {}

impl<M: Memory> Position<M> {
    #[inline(always)]
    pub fn new(memory: M, bucket: u32, way: u32) -> Option<Self> {
        let place = bucket * WAYS + way;
        Some(Self { bucket: memory.bucket(bucket)?, way, place })
    }

    /// Where its contents are.
    #[inline(always)]
    pub const fn contents(self) -> (M::Bucket, u32) {
        (self.bucket, self.way)
    }

    #[inline(always)]
    pub fn header(self, memory: M) -> Header {
        Header(memory.header(self.bucket, self.way))
    }

    /// Replaces the header `current`; returns whether it still was that.
    #[inline(always)]
    pub fn replace(self, memory: M, current: Header, new: Header) -> bool {
        memory.compare_exchange(self.bucket, self.way, current.0, new.0) == current.0
    }
}
