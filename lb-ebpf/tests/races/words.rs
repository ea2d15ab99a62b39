//! The memory of a conntrack table, at each word of which another CPU may go on.

use lb_common::address::{Address, Family, Tuple, V4, V6};
use lb_common::conntrack::table::{self, Memory, Steps, WAYS, words};
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_ebpf::world::Table;
use shuttle::sync::atomic::{AtomicU64, Ordering};

/// The words of a table of one family.
pub struct Words {
    words: Vec<AtomicU64>,
    buckets: u32,
    /// Words of the contents of a place.
    contents: usize,
}

impl Words {
    /// An empty table of so many buckets.
    pub fn new<A: Address>(buckets: u32) -> Self {
        let contents = words::<A>();
        let count = buckets as usize * WAYS as usize * (1 + contents);
        Self { words: (0..count).map(|_| AtomicU64::new(0)).collect(), buckets, contents }
    }

    /// Every entry, in the order of places.
    pub fn entries<A: Address>(&self, now: Ticks) -> Vec<(Tuple<A>, ConntrackEntry<A>)> {
        let mut entries = Vec::new();
        let all: Result<(), ()> = table::for_each(
            self,
            || now,
            |tuple, entry| {
                entries.push((tuple, entry));
                Ok(())
            },
        );
        all.expect("no visit fails");
        entries
    }

    fn header_of(&self, bucket: usize, way: u32) -> &AtomicU64 {
        &self.words[bucket + way as usize]
    }

    fn word_of(&self, bucket: usize, way: u32, index: usize) -> &AtomicU64 {
        &self.words[bucket + WAYS as usize + way as usize * self.contents + index]
    }
}

impl<A: Address> Steps<A> for &Words {}

impl Memory for &Words {
    /// Where its words begin.
    type Bucket = usize;

    fn buckets(&self) -> u32 {
        self.buckets
    }

    fn bucket(&self, index: u32) -> Option<usize> {
        let length = WAYS as usize * (1 + self.contents);
        (index < self.buckets).then_some(index as usize * length)
    }

    fn header(&self, bucket: usize, way: u32) -> u64 {
        self.header_of(bucket, way).load(Ordering::SeqCst)
    }

    fn compare_exchange(&self, bucket: usize, way: u32, current: u64, new: u64) -> u64 {
        let header = self.header_of(bucket, way);
        match header.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(found) | Err(found) => found,
        }
    }

    fn set_header(&self, bucket: usize, way: u32, header: u64) {
        self.header_of(bucket, way).store(header, Ordering::SeqCst);
    }

    fn word(&self, bucket: usize, way: u32, index: usize) -> u64 {
        self.word_of(bucket, way, index).load(Ordering::SeqCst)
    }

    fn set_word(&self, bucket: usize, way: u32, index: usize, word: u64) {
        self.word_of(bucket, way, index).store(word, Ordering::SeqCst);
    }

    fn replace_word(&self, bucket: usize, way: u32, index: usize, current: u64, new: u64) {
        let word = self.word_of(bucket, way, index);
        let _moved = word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// The conntrack tables of both families.
pub struct ConntrackTables {
    v4: [Words; 2],
    v6: [Words; 2],
}

impl ConntrackTables {
    /// Empty tables, of two buckets each: so the two that a tuple may be in differ for some.
    pub fn new() -> Self {
        Self { v4: [0; 2].map(|_| Words::new::<V4>(2)), v6: [0; 2].map(|_| Words::new::<V6>(2)) }
    }

    /// One of `A`'s.
    pub fn of<A: Address>(&self, table: Table) -> &Words {
        let [established, half_open] = match A::FAMILY {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        match table {
            Table::Established => established,
            Table::HalfOpen => half_open,
        }
    }
}
