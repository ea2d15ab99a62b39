//! The memory of the conntrack tables: arrays that the programs share with the agent.

use core::arch::asm;
use core::marker::PhantomData;

use lb_common::conntrack::table::{Memory, WAYS, WhenFull, words};
use lb_ebpf::world::Table;

use super::features;
use super::maps::FamilyMaps;

/// The memory of one of a family's tables, by its number: so one function serves all.
pub struct FlowMemory<A> {
    /// The table as an argument of functions.
    pub number: u32,
    size: Size,
    family: PhantomData<A>,
}

/// What the compiler knows of a table's size. At most of them it knows all, and the rest is not compiled.
#[derive(Clone, Copy)]
enum Size {
    New,
    Old,
    ByNumber,
}

impl<A> Clone for FlowMemory<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for FlowMemory<A> {}

impl<A> FlowMemory<A> {
    const ESTABLISHED: u32 = 0;
    const HALF_OPEN: u32 = 1;
    /// Added to the number of a table: that of the old size, while the agent resizes them.
    pub const OLD: u32 = 2;

    /// That of `table`.
    #[inline(always)]
    pub const fn new(table: Table) -> Self {
        let number = match table {
            Table::Established => Self::ESTABLISHED,
            Table::HalfOpen => Self::HALF_OPEN,
        };
        Self { size: Size::New, ..Self::of_number(number) }
    }

    /// That of the table with this number.
    #[inline(always)]
    pub const fn of_number(number: u32) -> Self {
        Self { number, size: Size::ByNumber, family: PhantomData }
    }

    /// `table` in the old size.
    #[inline(always)]
    pub const fn new_old(table: Table) -> Self {
        let number = Self::new(table).number | Self::OLD;
        Self { size: Size::Old, ..Self::of_number(number) }
    }

    #[inline(always)]
    const fn is_established(self) -> bool {
        self.number & Self::HALF_OPEN == 0
    }

    #[inline(always)]
    fn is_old(self) -> bool {
        match self.size {
            Size::New => false,
            Size::Old => true,
            Size::ByNumber => features::is_resizing() && self.number & Self::OLD != 0,
        }
    }

    /// What is done where no place is free.
    #[inline(always)]
    pub const fn when_full(self) -> WhenFull {
        if self.is_established() { WhenFull::Refuse } else { WhenFull::Evict }
    }
}

impl<A: FamilyMaps> FlowMemory<A> {
    #[inline(always)]
    fn old_bucket(self, index: u32) -> Option<*mut A::Bucket> {
        if self.is_established() {
            A::OLD_CONNTRACK.get_ptr_mut(index)
        } else {
            A::OLD_HALF_OPEN.get_ptr_mut(index)
        }
    }
}

impl<A: FamilyMaps> Memory for FlowMemory<A> {
    type Bucket = *mut u64;

    #[inline(always)]
    fn buckets(&self) -> u32 {
        if self.is_old() {
            return if self.is_established() {
                features::old_conntrack_buckets()
            } else {
                features::old_half_open_buckets()
            };
        }
        if self.is_established() {
            features::conntrack_buckets()
        } else {
            features::half_open_buckets()
        }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<*mut u64> {
        let bucket = if self.is_old() {
            self.old_bucket(index)
        } else if self.is_established() {
            A::CONNTRACK.get_ptr_mut(index)
        } else {
            A::HALF_OPEN.get_ptr_mut(index)
        };
        bucket.map(|bucket| bucket.cast())
    }

    #[inline(always)]
    fn header(&self, bucket: *mut u64, way: u32) -> u64 {
        // SAFETY: the kernel keeps the bucket until the program ends; it begins with WAYS aligned words.
        unsafe { header_of(bucket, way).read_volatile() }
    }

    #[inline(always)]
    fn compare_exchange(&self, bucket: *mut u64, way: u32, current: u64, new: u64) -> u64 {
        // SAFETY: as in `header`.
        unsafe { compare_exchange(header_of(bucket, way), current, new) }
    }

    #[inline(always)]
    fn set_header(&self, bucket: *mut u64, way: u32, header: u64) {
        // SAFETY: as in `header`.
        unsafe { header_of(bucket, way).write_volatile(header) }
    }

    #[inline(always)]
    fn word(&self, bucket: *mut u64, way: u32, index: usize) -> u64 {
        // SAFETY: as in `header`, of the words of contents.
        unsafe { word_of::<A>(bucket, way, index).read_volatile() }
    }

    #[inline(always)]
    fn set_word(&self, bucket: *mut u64, way: u32, index: usize, word: u64) {
        // SAFETY: as in `word`.
        unsafe { word_of::<A>(bucket, way, index).write_volatile(word) }
    }

    #[inline(always)]
    fn replace_word(&self, bucket: *mut u64, way: u32, index: usize, current: u64, new: u64) {
        // SAFETY: as in `word`.
        unsafe { compare_exchange(word_of::<A>(bucket, way, index), current, new) };
    }

    #[inline(always)]
    fn old(self) -> Option<Self> {
        features::is_resizing().then(|| Self::of_number(self.number | Self::OLD))
    }

    #[inline(always)]
    fn opaque(number: u64) -> u64 {
        opaque(number)
    }
}

/// The header of a place of `bucket`.
///
/// # Safety
/// `bucket` must point to a bucket.
#[inline(always)]
unsafe fn header_of(bucket: *mut u64, way: u32) -> *mut u64 {
    // SAFETY: the number is below WAYS.
    unsafe { bucket.add((way % WAYS) as usize) }
}

/// A word of the contents of a place of `bucket`.
///
/// # Safety
/// `bucket` must point to a bucket of this family, and `index` be below the number of words that contents have.
#[inline(always)]
unsafe fn word_of<A: FamilyMaps>(bucket: *mut u64, way: u32, index: usize) -> *mut u64 {
    // SAFETY: the contents of WAYS places follow as many headers.
    unsafe { bucket.add(WAYS as usize + (way % WAYS) as usize * words::<A>() + index) }
}

/// Replaces a word if it is `current`; returns what it was. A full barrier. The compiler has none of its own for
/// this target.
///
/// # Safety
/// `word` must be good for reading and writing, and aligned.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64 {
    let found;
    // SAFETY: the caller's promise. R0 is what the instruction compares with, and where it leaves what it found.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") current => found,
            options(nostack),
        );
    }
    found
}

/// See [`Memory::opaque`]. Not declared pure: so headers are looked at one after the other, and few are on the stack at
/// once.
#[inline(always)]
fn opaque(number: u64) -> u64 {
    let copy;
    // SAFETY: one register is copied to another. It must be an instruction: see `verifier::written`.
    unsafe {
        asm!(
            "{to} = {from}",
            to = out(reg) copy,
            from = in(reg) number,
            options(nomem, nostack, preserves_flags),
        );
    }
    copy
}
