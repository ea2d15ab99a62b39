//! The memory of a table, which is another one in the kernel and in user space.

/// Places in a bucket; their headers fill a cache line of 64 bytes.
pub const WAYS: u32 = 8;

/// The memory of a table.
pub trait Memory: Copy {
    /// A bucket: the headers of its places, and then their contents.
    type Bucket: Copy;

    /// How many buckets there are, at least one.
    fn buckets(&self) -> u32;
    /// A bucket; `None` beyond the last one.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// Reads a header; `way` is below [`WAYS`].
    fn header(&self, bucket: Self::Bucket, way: u32) -> u64;
    /// Replaces a header if it is `current`; returns what it was.
    fn compare_exchange(&self, bucket: Self::Bucket, way: u32, current: u64, new: u64) -> u64;
    /// Writes the header of a place that the caller has claimed.
    fn set_header(&self, bucket: Self::Bucket, way: u32, header: u64);
    /// Reads a word of the contents of a place.
    fn word(&self, bucket: Self::Bucket, way: u32, index: usize) -> u64;
    /// Writes a word of the contents of a place.
    fn set_word(&self, bucket: Self::Bucket, way: u32, index: usize, word: u64);
    /// Replaces a word of the contents of a place if it is `current`.
    fn replace_word(&self, bucket: Self::Bucket, way: u32, index: usize, current: u64, new: u64);
    /// The memory of the same table in the old size, while it is resized: an entry is in either, and on its way from there
    /// to here in both.
    #[inline(always)]
    fn old(self) -> Option<Self> {
        None
    }
    /// The same number, of which the compiler knows nothing: it makes no branch of arithmetic with it.
    #[inline(always)]
    fn opaque(number: u64) -> u64 {
        number
    }
}
